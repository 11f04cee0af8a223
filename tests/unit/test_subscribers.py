"""Who subscribes to a guard hears what its options hear, and cannot keep others from hearing it."""

from __future__ import annotations

import contextlib
import gc
from typing import Any

import pytest

from memguard.errors import CapacityError
from memguard.guard import MemoryGuard
from memguard.guard.memory_guard import MOST_SUBSCRIBERS
from memguard.relief.records import Alert
from tests.specimens import leak_report


def alert(kind: Any = "level") -> Alert:
    return Alert(
        kind=kind,
        level="critical",
        previous="ok",
        reasons=(),
        used=1,
        limit=1,
        source="x",
        time=0.0,
    )


def test_a_subscriber_hears_alerts_and_leaks_until_it_closes() -> None:
    heard: list[object] = []
    guard = MemoryGuard()
    subscription = guard.subscribe(heard.append)
    report = leak_report()
    guard._alerted(alert())
    guard._leaked(report)
    assert heard == [alert(), report]
    subscription.close()
    subscription.close()
    guard._alerted(alert())
    assert len(heard) == 2


def test_the_options_are_called_as_well_and_first() -> None:
    heard: list[str] = []
    guard = MemoryGuard(
        on_alert=lambda _: heard.append("on_alert"),
        on_recycle=lambda _: heard.append("on_recycle"),
        on_leak=lambda _: heard.append("on_leak"),
    )
    with guard.subscribe(lambda thing: heard.append(type(thing).__name__)):
        guard._alerted(alert("recycle"))
        guard._leaked(leak_report())
    assert heard == ["on_alert", "on_recycle", "Alert", "on_leak", "LeakReport"]


def test_on_leak_among_the_leak_options_wins_as_ever() -> None:
    heard: list[str] = []
    guard = MemoryGuard(
        on_leak=lambda _: heard.append("option"),
        leak_options={"on_leak": lambda _: heard.append("leak option")},
    )
    guard._leaked(leak_report())
    assert heard == ["leak option"]
    with pytest.raises(TypeError, match="on_leak must be callable"):
        MemoryGuard(leak_options={"on_leak": 1})


def test_all_are_called_though_one_fails_and_the_first_error_is_raised() -> None:
    heard: list[str] = []

    def fail(_: object) -> None:
        heard.append("failed")
        raise ValueError("mine")

    guard = MemoryGuard(on_alert=fail)
    guard.subscribe(fail)
    guard.subscribe(lambda _: heard.append("told"))
    with pytest.raises(ValueError, match="mine"):
        guard._alerted(alert())
    assert heard == ["failed", "failed", "told"]


def test_a_failing_subscriber_leaves_no_garbage() -> None:
    """Alerts come when memory is short."""

    class MineError(Exception):
        pass

    def fail(_: object) -> None:
        raise MineError

    guard = MemoryGuard()
    guard.subscribe(fail)
    guard.subscribe(fail)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(MineError):
            guard._alerted(alert())
        left = sum(type(thing) is MineError for thing in gc.get_objects())
    finally:
        gc.enable()
    assert left == 0


def test_what_a_leak_report_of_the_detector_brings_arrives() -> None:
    """The detector calls the guard, which calls on."""
    heard: list[object] = []
    guard = MemoryGuard()
    guard.subscribe(heard.append)
    assert guard.detector is not None
    guard.detector._delivery._on_leak(leak_report())  # type: ignore[misc] # reason: the guard gave one
    assert len(heard) == 1


def test_subscribers_are_bounded_and_must_be_callable() -> None:
    guard = MemoryGuard()
    entries = [guard.subscribe(print) for _ in range(MOST_SUBSCRIBERS)]
    with pytest.raises(CapacityError, match="close the registrations"):
        guard.subscribe(print)
    entries[0].close()
    guard.subscribe(print)
    with pytest.raises(TypeError, match="must be callable"):
        guard.subscribe(1)  # type: ignore[arg-type] # reason: it is refused
