"""
Frozen dataclasses as JSON data and back, strictly: untrusted input makes plain values only.

Fields may be scalars, other dataclasses, tuples of one kind, literals, and any of these or None.
"""

from __future__ import annotations

import functools
import math
import reprlib
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from memguard.errors import ReportFormatError

T = TypeVar("T")
_Reader: TypeAlias = Callable[[Any], Any]

MOST_INT = 2**63
"""Whole numbers are from minus this to this, so that doubles can stand for them."""


def read(cls: type[T], data: Any, where: str) -> T:
    """
    Return the *cls*, a dataclass, that ``plain(asdict(…))`` made *data* from.

    Safe for untrusted data. Thread-safe; cost: O(fields), a few times that of ``json.loads``.

    Args:
        cls: What is expected.
        data: What ``json.loads`` gave.
        where: What messages call it: ``"report"``.

    Raises:
        ReportFormatError: A missing, unknown or mistyped field, or a number that is too large; the
            message names it.
    """
    try:
        found: T = _dataclass_reader(typing.cast(Hashable, cls))(data)
    except _WrongError as wrong:
        path = where + "".join(reversed(wrong.path))
        raise ReportFormatError(f"{path} {wrong.message}") from None
    return found


def plain(value: Any) -> Any:
    """Return *value*, made by ``dataclasses.asdict``, as JSON has it: no tuples, no NaN."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


class _WrongError(Exception):
    """Something that is wrong; its path is put together on the way out, innermost step first."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path: list[str] = []


def _reader(expected: Any) -> _Reader:
    """Return what reads *expected*: a dataclass, tuple, optional, literal or scalar type."""
    if is_dataclass(expected):
        return _dataclass_reader(typing.cast(Hashable, expected))
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple:
        return _tuple_reader(_reader(arguments[0]))
    if origin in (typing.Union, types.UnionType):  # only ever "something or None" in this schema
        something = _reader(next(a for a in arguments if a is not type(None)))
        return lambda value: None if value is None else something(value)
    if origin is Literal:
        return _literal_reader(arguments)
    return {bool: _bool, int: _int, float: _float, str: _str}[expected]


@functools.cache  # of the schemas of memguard, whose hints are resolved once
def _dataclass_reader(expected: Hashable) -> _Reader:
    made: Any = expected
    hints = typing.get_type_hints(made)
    names = {field.name for field in fields(made)}
    readers = [(field.name, _reader(hints[field.name])) for field in fields(made)]

    def read_fields(value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise _mistyped("an object", value)
        if value.keys() != names:
            missing = reprlib.repr([name for name, _ in readers if name not in value])
            unknown = reprlib.repr(sorted(map(str, value.keys() - names)))
            raise _WrongError(f"has missing {missing} and unknown {unknown} fields")
        found = {}
        name = ""
        try:
            for name, reader in readers:
                found[name] = reader(value[name])
        except _WrongError as wrong:
            wrong.path.append(f".{name}")
            raise
        return made(**found)

    return read_fields


def _tuple_reader(reader: _Reader) -> _Reader:
    def read_items(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple):
            raise _mistyped("a list", value)
        found: list[Any] = []
        try:
            for item in value:
                found.append(reader(item))  # noqa: PERF401 - reason: its length says where it failed
        except _WrongError as wrong:
            wrong.path.append(f"[{len(found)}]")
            raise
        return tuple(found)

    return read_items


def _literal_reader(allowed: tuple[Any, ...]) -> _Reader:
    def read_literal(value: Any) -> Any:
        if value not in allowed:
            raise _mistyped("one of " + ", ".join(map(repr, allowed)), value)
        return value

    return read_literal


def _bool(value: Any) -> bool:
    if type(value) is not bool:
        raise _mistyped("true or false", value)
    return value


def _int(value: Any) -> int:
    if type(value) is not int:  # exact: a bool is not a number here
        raise _mistyped("a whole number", value)
    if not -MOST_INT <= value <= MOST_INT:
        raise _mistyped("a whole number of 64 bits", value)
    return value


def _float(value: Any) -> float:
    if value is None:
        return math.nan
    if type(value) not in (int, float):
        raise _mistyped("a number", value)
    try:
        found = float(value)
    except OverflowError:  # an int that no float can hold
        found = math.inf
    if math.isinf(found):  # 1e999, which JSON allows
        raise _mistyped("a finite number", value)
    return found


def _str(value: Any) -> str:
    if type(value) is not str:
        raise _mistyped("a string", value)
    return value


def _mistyped(allowed: str, value: Any) -> _WrongError:
    return _WrongError(f"must be {allowed} (got {shown(value)})")


def shown(value: Any) -> str:
    """Return what was found, for a message: a plain value shortened, of anything else its type."""
    if type(value) is int and value.bit_length() > 64:  # repr refuses to print the longest
        return f"an int of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float, str):
        return reprlib.repr(value)
    return type(value).__name__
