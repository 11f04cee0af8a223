"""What the command line, the ini file and the marker may say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.integrations.testing.options import (
    KINDS,
    Plan,
    Settings,
    plan_of,
    read_kinds,
    read_settings,
)
from memguard.units import KiB, MiB


def asked(*marks: dict[str, Any], settings: Settings = Settings()) -> Plan:  # noqa: B008 - reason: frozen
    return plan_of([((), mark) for mark in marks], settings)


def test_nothing_is_asked_by_default() -> None:
    settings = read_settings(dict.fromkeys(("leaks", "limit", "fail_on", "grace")))
    assert settings.plan.is_empty
    assert settings == Settings()
    assert asked().is_empty


def test_a_marker_is_read_with_its_units() -> None:
    plan = asked({"limit": "50MiB", "leaks": "1KiB", "warmup": 3, "repeat": 9, "fail_on": "tasks"})
    assert plan == Plan(
        limit=50 * MiB,
        leaks=KiB,
        warmup=3,
        repeat=9,
        fail_on=frozenset({"tasks"}),
        demanded=True,
    )


def test_the_nearer_marker_wins_word_by_word() -> None:
    plan = asked({"limit": "50MiB", "leaks": 100}, {"leaks": 200})
    assert (plan.limit, plan.leaks) == (50 * MiB, 200)


def test_a_test_can_leave_what_is_asked_of_all() -> None:
    settings = read_settings({"leaks": "3:7", "limit": "1GiB", "fail_on": "all"})
    assert settings.plan == Plan(
        limit=1024 * MiB, leaks=1024, warmup=3, repeat=7, fail_on=frozenset(KINDS)
    )
    left = asked({"leaks": None, "limit": None, "fail_on": None}, settings=settings)
    assert left.is_empty
    assert not left.demanded
    assert asked(settings=settings) == settings.plan


def test_runs_alone_ask_for_leaks_by_the_common_limit() -> None:
    plan = asked({"repeat": 9}, settings=read_settings({"leaks_limit": "4KiB"}))
    assert (plan.leaks, plan.repeat, plan.demanded) == (4 * KiB, 9, True)


@pytest.mark.parametrize(
    ("mark", "error", "says"),
    [
        ({"leek": 1}, TypeError, "takes limit, leaks, warmup, repeat, fail_on (got 'leek')"),
        ({"leaks": 1.5}, TypeError, "leaks must be a number of bytes or a string"),
        ({"leaks": "1 K B"}, ConfigError, "leaks must be a size >= 0"),
        ({"limit": -1}, ConfigError, "limit must be 0 to"),
        ({"warmup": 0}, ConfigError, "warmup must be from 1 to 1000 (got 0)"),
        ({"repeat": 1}, ConfigError, "repeat must be from 2 to 1000 (got 1)"),
        ({"repeat": True}, TypeError, "repeat must be an int (got bool)"),
        ({"fail_on": "thread"}, ConfigError, "must be of threads, tasks, timers, listeners, pools"),
        ({"fail_on": 7}, TypeError, "fail_on must be a string like 'threads,tasks'"),
        ({"fail_on": [7]}, TypeError, "fail_on must name kinds with strings (got int)"),
    ],
)
def test_a_wrong_marker_is_refused(mark: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error) as raised:
        asked(mark)
    assert says in str(raised.value)


def test_a_marker_without_a_name_is_refused() -> None:
    with pytest.raises(TypeError, match=r"takes options by name, like leaks='1KiB' .got 1"):
        plan_of([(("1KiB",), {})], Settings())


@pytest.mark.parametrize("text", ["2", "2:", ":5", "a:b", "2:5:1", "-1:5", "2:5.0", "9" * 400])
def test_runs_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must be WARMUP:RUNS like '2:5', or 'off'"):
        read_settings({"leaks": text})


@pytest.mark.parametrize("text", ["0:5", "2:1", "2:1001"])
def test_runs_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be from [12] to 1000"):
        read_settings({"leaks": text})


@pytest.mark.parametrize("text", ["off", "", "none", "OFF"])
def test_off_turns_off_what_the_ini_file_turned_on(text: str) -> None:
    assert read_settings({"leaks": text, "limit": text, "fail_on": text}).plan.is_empty


@given(st.lists(st.sampled_from(KINDS)))
def test_kinds_are_read_from_text_and_from_lists(kinds: list[str]) -> None:
    assert read_kinds(", ".join(kinds), name="x") == read_kinds(kinds, name="x") == set(kinds)


@given(st.sampled_from(["leaks", "limit", "fail_on", "leaks_limit", "grace"]), st.text(max_size=20))
def test_any_text_is_read_or_refused_in_our_words(name: str, text: str) -> None:
    try:
        read_settings({name: text})
    except ConfigError as error:
        assert "must be" in str(error)  # noqa: PT017 - reason: either outcome is right


def test_threads_are_ignored_by_pattern() -> None:
    settings = read_settings({"ignore_threads": ["worker-*", "pool"]})
    assert settings.ignores_thread("worker-3")
    assert settings.ignores_thread("pool")
    assert not settings.ignores_thread("pool-1")
