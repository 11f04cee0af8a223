"""
Real servers: the guard runs in each worker, or says that it does not; stopping takes no longer.

The axes: server, where ``install()`` stands, preloaded or not: the table of ``docs/production.md``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.server_commands import WORKERS, granian, gunicorn, hypercorn, uvicorn, uwsgi
from tests.server_processes import Host, asked_for, in_time, needs, unwatched, watched

pytestmark = [
    pytest.mark.stress,
    asked_for,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.timeout(300),  # a server and its bare twin, up to three times
]

RESTART = {"restart_in_children": True}


@dataclass(frozen=True)
class Cell:
    """A server, where the guard is installed in it, and whether it is to run in the workers."""

    server: Callable[..., list[str]]
    where: str
    options: tuple[str, ...] = ()
    guard: tuple[tuple[str, Any], ...] = ()
    runs: bool = True

    @property
    def id(self) -> str:
        guard = [name for name, _ in self.guard]
        named = [option.lstrip("-") for option in self.options if option != "-k"]
        return "-".join([self.server.__name__, *named, self.where, *guard])

    def command(self, where: str | None = None) -> list[str]:
        more = {"asgi": True} if "uvicorn.workers.UvicornWorker" in self.options else {}
        return self.server(self.where if where is None else where, *self.options, **more)

    def host(self, directory: Path, where: str | None = None, **guard: Any) -> Host:
        where = self.where if where is None else where
        host = Host(directory, self.command(where), where, {**dict(self.guard), **guard})
        host.wait(host.serves, "an answer")
        return host


def cells() -> list[Cell]:
    found: list[Cell] = []
    restart = tuple(RESTART.items())
    uvicorns = ("-k", "uvicorn.workers.UvicornWorker")
    for kind in (("-k", "sync"), ("-k", "gthread", "--threads=2"), uvicorns, ("-k", "gevent")):
        preload = (*kind, "--preload")
        found += [
            *(Cell(gunicorn, where, kind) for where in ("import", "hook", "setup")),
            Cell(gunicorn, "import", preload, runs=False),
            Cell(gunicorn, "import", preload, restart),
            *(Cell(gunicorn, where, preload) for where in ("hook", "setup")),
        ]
        if kind in (uvicorns, ("-k", "sync")):
            found += [
                Cell(gunicorn, "factory", kind),
                Cell(gunicorn, "factory", preload, runs=False),
            ]
        if kind is uvicorns:
            found += [Cell(gunicorn, "lifespan", each) for each in (kind, preload)]
    found += [Cell(uvicorn, where) for where in ("import", "factory", "lifespan")]
    found += [Cell(hypercorn, where) for where in ("import", "lifespan")]
    found += [Cell(granian, where) for where in ("import", "factory", "lifespan")]
    found += [Cell(granian, where, ("wsgi",)) for where in ("import", "factory")]
    for more in ((), ("--threads=2",)):
        found += [
            Cell(uwsgi, "import", more, runs=False),
            Cell(uwsgi, "import", more, restart),
            *(Cell(uwsgi, where, more) for where in ("hook", "setup")),
            *(Cell(uwsgi, where, (*more, "--lazy-apps")) for where in ("import", "setup")),
        ]
    return found


BARE: dict[tuple[str, ...], float] = {}
"""Seconds that bare servers took to stop; measured again beside a guarded one that is slow."""
QUICK: dict[str, Any] = {"leak_options": {"trace_seconds": 0.1, "interval": 0.05}}
CELLS = [pytest.param(cell, id=cell.id) for cell in cells()]


def needs_server(cell: Cell) -> None:
    needs(cell.server.__name__)
    if "gevent" in cell.options:
        needs("gevent")


@pytest.mark.parametrize("cell", CELLS)
def test_the_guard_runs_or_says_so_and_stops_in_time(cell: Cell, tmp_path: Path) -> None:
    needs_server(cell)
    numbers = iter(range(100))
    key = tuple(cell.command("bare"))

    def bare() -> float:
        number = next(numbers)
        if number == 0 and key in BARE:
            return BARE[key]
        with cell.host(tmp_path / f"bare{number}", "bare") as host:
            host.all_workers(WORKERS)
            time.sleep(0.4 * number)  # another moment of the second after which it looks
            BARE[key] = host.stop()
            return BARE[key]

    def guarded() -> float:
        directory = tmp_path / f"guarded{next(numbers)}"
        reports = directory / "reports"
        with cell.host(directory, report_dir=str(reports), **QUICK) as host:
            if cell.runs:
                watched(host, reports)
            else:
                unwatched(host)
            took = host.stop()
            assert "Traceback" not in host.log(), host.log()
            assert "deadlock" not in host.log(), host.log()
            return took

    in_time(bare, guarded)
