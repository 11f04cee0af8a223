"""Call sites: the nearest line outside memguard, and how they are shown and grouped."""

from __future__ import annotations

from typing import Any

import pytest

from memguard import BoundedCache, ListenerRegistry, Scope, TimerRegistry
from memguard.bounded import callsite
from memguard.errors import ConfigError


def here() -> callsite.Site:
    return callsite.caller()


def test_a_site_is_the_line_that_asked() -> None:
    first = here.__code__.co_firstlineno
    assert callsite.line_of(here()) == first + 1
    assert callsite.shown(here()) == f"unit/test_callsite.py:{first + 1}"


def test_a_default_name_is_the_kind_and_the_line_outside_memguard() -> None:
    assert callsite.name_for("Cache", None).startswith("Cache@unit/test_callsite.py:")
    assert callsite.name_for("Cache", "sessions") == "sessions"
    with pytest.raises(TypeError, match="name must be a string"):
        callsite.name_for("Cache", 7)
    with pytest.raises(ConfigError, match="must not be empty"):
        callsite.name_for("Cache", "")


def test_every_container_is_named_after_the_line_that_made_it() -> None:
    first = test_every_container_is_named_after_the_line_that_made_it.__code__.co_firstlineno
    made: list[Any] = [
        BoundedCache[str, int](5),
        ListenerRegistry(),
        Scope(),
        TimerRegistry(),
    ]
    assert [container.name for container in made] == [
        f"{kind}@unit/test_callsite.py:{first + line}"
        for line, kind in enumerate(
            ("BoundedCache", "ListenerRegistry", "Scope", "TimerRegistry"), start=3
        )
    ]


def test_the_most_frequent_sites_come_first_and_the_rest_is_counted() -> None:
    code = here.__code__
    sites = [(code, start) for start, _end, line in code.co_lines() if line is not None]
    site = here()
    assert callsite.grouped([site] * 3) == f"3x {callsite.shown(site)}"
    assert sum(callsite.counted(sites).values()) == len(sites)
    text = callsite.grouped([place for n in range(1, 8) for place in [in_file(n)] * n], most=2)
    assert text == "7x app/file7.py:1, 6x app/file6.py:1, and 5 more"


def in_file(number: int) -> callsite.Site:
    code = compile("here()", f"app/file{number}.py", "eval")
    return code, len(code.co_code) - 2
