"""What went wrong is counted by kind, and each kind is logged once."""

from __future__ import annotations

import logging

import pytest

from memguard.lifecycle.failures import MAX_KINDS, Failures


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def raised(error: Exception) -> Exception:
    try:
        raise error  # noqa: TRY301 - reason: raised here, for its traceback
    except Exception as same:  # noqa: BLE001 - reason: whatever was given
        return same


def test_each_kind_is_logged_once_with_its_place_and_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures("detector.failed", detector="shop")
    with caplog.at_level(logging.WARNING, "memguard"):
        for _ in range(3):
            failures.add("tick", raised(OSError("a secret")))
        failures.add("tick", ValueError())
    assert failures.count == 4
    assert failures.kinds == (("tick: OSError", 3), ("tick: ValueError", 1))
    first, second = lines(caplog)
    assert "detector='shop'" in first
    assert "what='tick'" in first
    assert "error='OSError'" in first
    assert f"{__file__}:" in first
    assert "place='?'" in second
    assert "secret" not in first


def test_a_failure_under_a_lock_is_counted_now_and_logged_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = Failures("relief.failed")
    with caplog.at_level(logging.WARNING, "memguard"):
        failures.count_only("resize", OSError())
        assert failures.count == 1
        assert lines(caplog) == []
        failures.log()
        failures.log()
    assert len(lines(caplog)) == 1


def test_kinds_are_bounded_and_the_rest_counted_together() -> None:
    failures = Failures("relief.failed")
    for number in range(MAX_KINDS + 10):
        failures.count_only(f"part {number}", OSError())
    assert len(failures.kinds) == MAX_KINDS + 1
    assert failures.count == MAX_KINDS + 10
    assert dict(failures.kinds)["others"] == 10


def test_the_text_of_an_error_is_never_asked_for() -> None:
    class Hostile(Exception):  # noqa: N818 - reason: it is no error of ours
        def __str__(self) -> str:
            raise AssertionError

        __repr__ = __str__

    Failures("relief.failed").add("callback", Hostile())
