"""
Frozen dataclasses as JSON data and back, strictly: untrusted input makes plain values only.

Fields may be scalars, other dataclasses, tuples of one kind, literals, and any of these or None.
"""

from __future__ import annotations

import math
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeVar

from memguard.errors import ReportFormatError

T = TypeVar("T")


def read(cls: type[T], data: Any, where: str) -> T:
    """
    Return the *cls*, a dataclass, that ``plain(asdict(…))`` made *data* from.

    Safe for untrusted data. Thread-safe; cost: O(fields).

    Args:
        cls: What is expected.
        data: What ``json.loads`` gave.
        where: What messages call it: ``"report"``.

    Raises:
        ReportFormatError: A missing, unknown or mistyped field; the message names it.
    """
    found: T = _read_dataclass(cls, data, where)
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


def _read(expected: Any, value: Any, where: str) -> Any:
    """Build *expected* (a dataclass, tuple, optional, literal or scalar type) from JSON data."""
    if is_dataclass(expected):
        return _read_dataclass(expected, value, where)
    origin, arguments = typing.get_origin(expected), typing.get_args(expected)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _mistyped(where, "a list", value)
        return tuple(_read(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if origin in (typing.Union, types.UnionType):  # only ever "something or None" in this schema
        something = next(a for a in arguments if a is not type(None))
        return None if value is None else _read(something, value, where)
    return _read_scalar(expected, value, where)


def _read_scalar(expected: Any, value: Any, where: str) -> Any:
    if typing.get_origin(expected) is Literal:
        allowed = typing.get_args(expected)
        if value not in allowed:
            raise _mistyped(where, "one of " + ", ".join(map(repr, allowed)), value)
        return value
    if expected is float and value is None:
        return math.nan
    kinds = (int, float) if expected is float else (expected,)
    if type(value) not in kinds:  # exact: a bool is not a number here
        raise _mistyped(where, _type_name(expected), value)
    try:
        return expected(value)
    except OverflowError:  # an int that no float can hold
        raise _mistyped(where, "a finite number", value) from None


def _read_dataclass(expected: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise _mistyped(where, "an object", value)
    names = [field.name for field in fields(expected)]
    missing = reprlib.repr([name for name in names if name not in value])
    unknown = reprlib.repr(sorted(map(str, value.keys() - set(names))))
    if value.keys() != set(names):
        raise ReportFormatError(f"{where} has missing {missing} and unknown {unknown} fields")
    hints = typing.get_type_hints(expected)
    return expected(**{name: _read(hints[name], value[name], f"{where}.{name}") for name in names})


def _mistyped(where: str, allowed: str, value: Any) -> ReportFormatError:
    return ReportFormatError(f"{where} must be {allowed} (got {shown(value)})")


def shown(value: Any) -> str:
    """Return what was found, for a message: a plain value shortened, of anything else its type."""
    if type(value) is int and value.bit_length() > 64:  # repr refuses to print the longest
        return f"an int of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float, str):
        return reprlib.repr(value)
    return type(value).__name__


def _type_name(expected: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[
        expected
    ]
