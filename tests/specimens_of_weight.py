"""Kinds of objects that programs keep: each factory makes a new one that shares nothing."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import functools
import io
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple


class Plain:
    """Attributes in a table of its own."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"name {number}"
        self.data = bytes(300)

    def act(self) -> None:
        """Do nothing."""


class Slotted:
    """Attributes in slots."""

    __slots__ = ("name", "value")

    def __init__(self, number: int) -> None:
        self.name = f"name {number}"
        self.value = number / 7


@dataclasses.dataclass
class Row:
    """A dataclass."""

    number: int
    tags: list[str]


class Point(NamedTuple):
    """A tuple with names."""

    x: float
    label: str


class Text(str):  # noqa: SLOT000 - reason: as markupsafe and Django have them
    """A string of one's own."""


class Blob(bytes):
    """Bytes of one's own."""


class Rows(list[Any]):
    """A list of one's own."""


class Table(dict[Any, Any]):
    """A dict of one's own."""


class Samples(array.array):  # type: ignore[type-arg] # reason: not generic at run time on 3.11
    """An array of one's own."""


def texts(number: int, count: int) -> list[str]:
    """Return new strings."""
    return [f"text {number} {k}" for k in range(count)]


def _rows(number: int) -> Iterator[Any]:
    block = bytearray(2000)
    yield number
    yield block


def generator(number: int) -> Any:
    """Return one that was begun."""
    rows = _rows(number)
    next(rows)
    return rows


@types.coroutine
def _wait() -> Iterator[None]:
    yield


async def _job(number: int) -> Any:
    data = texts(number, 20)
    await _wait()
    return data


def coroutine(number: int) -> Any:
    """Return one that waits."""
    job = _job(number)
    job.send(None)
    return job


async def _stream(number: int) -> AsyncIterator[Any]:
    data = bytes(1500 + number % 2)
    yield data
    await _wait()
    yield data


def closure(number: int) -> Any:
    """Return a function that keeps a block."""
    data = bytes(3000 + number % 2)
    return lambda: data


def failure(number: int) -> Exception:
    """Return an exception, whose traceback keeps a block."""
    data = bytes(3000 + number % 2)
    try:
        int(f"{number} is no number of {len(data)}")
    except ValueError as error:
        return error
    raise AssertionError


def groups(number: int) -> Any:
    """Return a dict that makes its values."""
    found: collections.defaultdict[str, list[str]] = collections.defaultdict(list)
    for text in texts(number, 8):
        found[text[-1]].append(text)
    return found


def tree(number: int) -> Any:
    """Return nodes that know their parent."""
    root: dict[str, Any] = {"name": f"root {number}", "below": []}
    for text in texts(number, 6):
        root["below"].append({"name": text, "above": root})
    return root


KINDS: dict[str, Callable[[int], Any]] = {
    "bytes": lambda n: bytes(1000 + n % 2),
    "str": lambda n: f"key number {n}",
    "float": lambda n: n + 0.5,
    "str subclass": lambda n: Text("x" * 20_000 + str(n)),
    "bytes subclass": lambda n: Blob(bytes(20_000 + n % 2)),
    "bytearray": lambda _: bytearray(10_000),
    "array": lambda _: array.array("d", bytes(8000)),
    "array subclass": lambda _: Samples("d", bytes(8000)),
    "tuple": lambda n: (n + 10**6, f"name {n}", 1.5 * n),
    "named tuple": lambda n: Point(n + 0.5, f"label {n}"),
    "list": lambda n: texts(n, 10),
    "list subclass": lambda n: Rows(texts(n, 10)),
    "dict": lambda n: {"id": n + 10**6, "name": f"name {n}", "tags": texts(n, 2)},
    "dict of texts": lambda n: dict.fromkeys(texts(n, 10), n),
    "dict subclass": lambda n: Table(enumerate(texts(n, 10))),
    "Counter": lambda n: collections.Counter(texts(n, 30)),
    "defaultdict": groups,
    "OrderedDict": lambda n: collections.OrderedDict.fromkeys(texts(n, 20)),
    "deque": lambda n: collections.deque(texts(n, 100)),
    "set": lambda n: set(texts(n, 20)),
    "frozenset": lambda n: frozenset(texts(n, 20)),
    "instance": Plain,
    "slots": Slotted,
    "dataclass": lambda n: Row(n + 10**6, texts(n, 2)),
    "namespace": lambda n: types.SimpleNamespace(name=f"{n}", tags=texts(n, 3)),
    "generator": generator,
    "coroutine": coroutine,
    "async generator": _stream,
    "closure": closure,
    "bound method": lambda n: Plain(n).act,
    "method of a buffer": lambda _: bytearray(5000).append,
    "partial": lambda n: functools.partial(print, bytes(1000 + n % 2)),
    "exception": failure,
    "memoryview": lambda _: memoryview(bytearray(5000))[10:],
    "BytesIO": lambda n: io.BytesIO(bytes(5000 + n % 2)),
    "Decimal": lambda n: decimal.Decimal(n) / 7,
    "datetime": lambda n: dt.datetime.fromtimestamp(n, dt.UTC),
    "class": lambda n: type("Made", (), {"columns": texts(n, 50)}),
    "tree": tree,
    "nested": lambda n: {"rows": [{"texts": texts(n, 4), "pair": (n + 0.5, f"{n}")}] * 2},
}
