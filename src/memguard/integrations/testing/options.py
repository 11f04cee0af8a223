"""The options of a test: read from the command line, the ini file and the marker, and checked."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from memguard.bounded.options import check_int
from memguard.errors import ConfigError
from memguard.units import parse_bytes, parse_seconds

KINDS = ("threads", "tasks", "timers", "listeners", "pools")
"""What a test can leave behind."""
WARMUP = 2
REPEAT = 5
LEAKS_LIMIT = "1KiB"
"""Allowed for each run if the command line asks for all tests."""
GRACE = "2s"
MOST_RUNS = 1000
_OFF = ("", "off", "none", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured of one test. Bytes."""

    limit: int | None = None
    """How far traced memory may rise above where it was when the call of the test began."""
    leaks: int | None = None
    """What may survive each run; None measures no leaks."""
    warmup: int = WARMUP
    """Runs before counting begins, the test's ordinary run among them."""
    repeat: int = REPEAT
    """Runs that count."""
    fail_on: frozenset[str] = frozenset()
    """Of `KINDS`."""
    demanded: bool = False
    """True if the test itself asks for *leaks*: then not being measurable is a failure."""

    @property
    def is_empty(self) -> bool:
        """True if nothing is checked."""
        return self.limit is None and self.leaks is None and not self.fail_on


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the command line and the ini file ask of all tests."""

    plan: Plan = Plan()
    leaks_limit: int = 1024
    """For tests that ask for runs but not for a limit, bytes."""
    ignored_threads: tuple[str, ...] = ()
    """Patterns of names, as in ``fnmatch``."""
    grace: float = 2.0
    """Seconds that what is ending has to end."""

    def ignores_thread(self, name: str) -> bool:
        """Return whether a thread of this *name* may stay."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.ignored_threads)


def read_settings(given: Mapping[str, Any]) -> Settings:
    """
    Return the settings in *given*, where a name that is missing, or None, has its default.

    Args:
        given: ``leaks``, ``leaks_limit``, ``limit``, ``fail_on`` and ``grace`` as text,
            ``ignore_threads`` as a list of it.

    Raises:
        ConfigError: A text that cannot be read; says what is allowed.
    """
    leaks_limit = parse_bytes(
        given.get("leaks_limit") or LEAKS_LIMIT, name="--memguard-leaks-limit"
    )
    runs = _runs(given.get("leaks"))
    limit = given.get("limit")
    warmup, repeat = runs or (WARMUP, REPEAT)
    plan = Plan(
        limit=None if _is_off(limit) else parse_bytes(str(limit), name="--memguard-limit"),
        leaks=leaks_limit if runs else None,
        warmup=warmup,
        repeat=repeat,
        fail_on=read_kinds(given.get("fail_on") or "", name="--memguard-fail-on"),
    )
    return Settings(
        plan=plan,
        leaks_limit=leaks_limit,
        ignored_threads=tuple(given.get("ignore_threads") or ()),
        grace=parse_seconds(given.get("grace") or GRACE, name="memguard_grace"),
    )


def _is_off(text: Any) -> bool:
    return text is None or str(text).strip().lower() in _OFF


def _runs(text: str | None) -> tuple[int, int] | None:
    """Return (warm-up, counted) of ``"2:5"``; None for ``"off"``."""
    if text is None or _is_off(text):
        return None
    warmup, colon, repeat = text.partition(":")
    if not colon or not (_is_count(warmup) and _is_count(repeat)):
        raise ConfigError(
            f"--memguard-leaks must be WARMUP:RUNS like '2:5', or 'off' (got {text[:60]!r})"
        )
    return (
        check_int(int(warmup), "the warm-up of --memguard-leaks", 1, MOST_RUNS),
        check_int(int(repeat), "the runs of --memguard-leaks", 2, MOST_RUNS),
    )


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


def read_kinds(value: str | Iterable[str], *, name: str) -> frozenset[str]:
    """
    Return the kinds in *value*: ``"threads,tasks"``, ``"all"``, ``"none"``, or a list of them.

    Raises:
        TypeError: Neither a string nor strings.
        ConfigError: A word that is not a kind.
    """
    if isinstance(value, str):
        words = [] if _is_off(value) else [word.strip() for word in value.split(",")]
    elif isinstance(value, list | tuple | set | frozenset):
        words = list(value)
    else:
        raise TypeError(
            f"{name} must be a string like 'threads,tasks' or a list of such words "
            f"(got {type(value).__name__})"
        )
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"{name} must name kinds with strings (got {type(word).__name__})")
        if word != "all" and word not in KINDS:
            allowed = ", ".join((*KINDS, "all"))
            raise ConfigError(f"{name} must be of {allowed}, or 'none' (got {word[:60]!r})")
    return frozenset(KINDS) if "all" in words else frozenset(words)


def plan_of(marks: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]], settings: Settings) -> Plan:
    """
    Return the checks of a test.

    Args:
        marks: The arguments of its markers, the farthest first: what is nearer wins, word by word.
        settings: For what no marker says.

    Raises:
        TypeError: An argument of the wrong kind, or one that does not exist.
        ConfigError: An argument out of range.
    """
    asked: dict[str, Any] = {}
    for args, options in marks:
        if args:
            raise TypeError(
                "the memguard marker takes options by name, like leaks='1KiB' "
                f"(got {len(args)} without a name)"
            )
        asked.update(options)
    plan = settings.plan
    for name, value in asked.items():
        read = _READERS.get(name)
        if read is None:
            allowed = ", ".join(_READERS)
            raise TypeError(f"the memguard marker takes {allowed} (got {str(name)[:60]!r})")
        plan = replace(plan, **{name: read(value, name)})
    if plan.leaks is None and asked.keys() & {"warmup", "repeat"} and "leaks" not in asked:
        plan = replace(plan, leaks=settings.leaks_limit)
    repeated = bool(asked.keys() & {"leaks", "warmup", "repeat"})
    return replace(plan, demanded=repeated and plan.leaks is not None)


def read_size(value: Any, name: str) -> int | None:
    """Return *value* in bytes; None stays None, which asks for nothing."""
    return None if value is None else parse_bytes(value, name=name)


def read_warmup(value: Any, name: str) -> int:
    """Return *value* if it is a number of runs to warm up."""
    return check_int(value, name, 1, MOST_RUNS)


def read_repeat(value: Any, name: str) -> int:
    """Return *value* if it is a number of runs to count."""
    return check_int(value, name, 2, MOST_RUNS)


def _kinds(value: Any, name: str) -> frozenset[str]:
    return frozenset() if value is None else read_kinds(value, name=name)


_READERS: dict[str, Any] = {
    "limit": read_size,
    "leaks": read_size,
    "warmup": read_warmup,
    "repeat": read_repeat,
    "fail_on": _kinds,
}
