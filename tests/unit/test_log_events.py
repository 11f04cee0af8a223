"""How the events of the source are found: what is not seen must not be passed over in silence."""

from __future__ import annotations

import pytest

from tests.log_events import events


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("log.event(WARNING, 'a.b', x=1, exc_info=error)", {"a.b": {"x"}}),
        ("log.event(INFO, 'a.b' if alarm else 'a.c', x=1)", {"a.b": {"x"}, "a.c": {"x"}}),
        ("log.event(INFO, {'one': 'a.b', 'two': 'a.c'}[kind])", {"a.b": set(), "a.c": set()}),
        (
            "def say(name, what):\n log.event(1, f'a.{name}', x=1)\nsay('b', 2)\nsay('c', what=2)",
            {"a.b": {"x"}, "a.c": {"x"}},
        ),
        (
            "def say(name, **keys):\n log.event(1, name, x=1, **keys)\nself.say('a.b', y=2)",
            {"a.b": {"x", "y"}},
        ),
        ("def say():\n names = {1: 'a.b'}\n log.event(1, names[k])", {"a.b": set()}),
        (
            "S = Literal['b', 'c']\nclass N:\n status: S\nlog.event(1, f'a.{n.status}', x=1)",
            {"a.b": {"x"}, "a.c": {"x"}},
        ),
        ("EVENTS = {1: 'a.b', 2: 'a.c'}\nlog.event(1, EVENTS[kind])", {"a.b": set(), "a.c": set()}),
        (
            "class Failures:\n def add(self):\n  log.event(1, self._event, x=1)\nFailures('a.b')",
            {"a.b": {"x"}},
        ),
        (
            "class F:\n def a(self):\n  log.event(1, self._name, x=1, **self._more)\nF('a.b', y=2)",
            {"a.b": {"x", "y"}},
        ),
    ],
)
def test_an_event_is_found_however_it_is_written(code: str, found: dict[str, set[str]]) -> None:
    assert events({"module.py": code}) == found


@pytest.mark.parametrize("code", ["log.event(1, name)", "def say(name):\n log.event(1, name)"])
def test_an_event_whose_name_cannot_be_found_is_told(code: str) -> None:
    with pytest.raises(AssertionError):
        events({"module.py": code})
