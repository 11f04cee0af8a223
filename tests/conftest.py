"""What every test gets: a check that it left nothing behind, and a clock that it can move."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from memguard import log
from memguard.bounded import inventory
from tests.clock import FakeClock
from tests.residue import Residue, join_what_ends_by_itself, stop_janitor

# What an example takes, and how fast examples are made, is the machine's; a test has its timeout.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure() -> None:
    """Let children be interrupted, where this process was started in a shell's background."""
    log._logger()  # else the first event of a test would leave the logger's handler behind
    # There SIGINT is ignored, and what is ignored is so in every child, which then never ends.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each processor, for every second test waits most of its time."""
    return min(2 * (os.cpu_count() or 1), 16)


@pytest.fixture(autouse=True)
def no_residue() -> Iterator[None]:
    """Fail a test that leaves a thread, hook, handler or changed setting in the process."""
    before = Residue.take()
    yield
    join_what_ends_by_itself()  # first: what it uses may need the janitor
    stop_janitor()
    join_what_ends_by_itself()
    changes = Residue.take().changes_since(before)
    assert not changes, "left behind by this test:\n  " + "\n  ".join(changes)


ALONE = (
    *("admission", "calibration", "callbacks_real", "caps", "components", "guard"),
    *("library_pools", "pressure", "pressure_callbacks", "relief_threads", "steps"),
    *("process_status", "guard_state", "publishing", "cli_top", "cli_top_url", "top_view"),
    *("health", "health_asgi", "health_wsgi", "health_application", "page", "page_browser"),
    *("prometheus", "metrics_containers", "prometheus_multiprocess", "prometheus_servers"),
    *("opentelemetry", "opentelemetry_otlp", "alerts", "alert_rules"),
)
"""Modules of tests that shrink, count or show whatever containers the process has."""


@pytest.fixture(autouse=True)
def own_inventory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hide what other tests keep alive: it would be told, or shrunk and stay so."""
    if not request.module.__name__.endswith(tuple(f"test_{name}" for name in ALONE)):
        yield
        return
    hidden = inventory._entries.copy()
    inventory._entries.clear()
    yield
    for ident, entry in hidden.items():
        if entry() is not None:
            inventory._entries.setdefault(ident, entry)


@pytest.fixture
def fake_clock() -> FakeClock:
    """Return a clock at 1000 seconds that only moves when told."""
    return FakeClock()
