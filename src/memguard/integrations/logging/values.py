"""
Values for a log, cut to size before anything makes text of them. No I/O, no clock, no thread.

``logger.info("got %s", response)`` costs as much memory as the longest ``repr`` of anything that
hangs below *response*, several times over, and at the worst time: errors are logged with their
causes. Instead, a value is walked here and copied into plain builtins until a budget of bytes
is spent; a mark replaces what was left out.

Objects are recognized by ``type()`` and read through the slots of the builtin types, so no
``__repr__``, ``__len__``, ``__iter__`` or property of a user's class runs: none of these can be
bounded while it runs. Other objects are named, not rendered, unless *allow* has their type.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypedDict

from memguard.bounded.options import check_int
from memguard.errors import ConfigError
from memguard.heap.naming import clean, instance_dict, mro_of, type_name
from memguard.units import parse_bytes

MOST_BITS = 1024
"""Integers with more bits are described; these have 309 digits, and cost less than a line."""
_LONGEST_NAME = 200
_LEAST = 64
"""Bytes reserved for a value that is always included."""
_NODE = 8
"""Bytes of the budget that a value costs in addition to its text: even empty lists use it up."""
_PLAIN = {
    "datetime": ("date", "timedelta", "timezone"),
    "uuid": ("UUID",),
    "ipaddress": ("IPv4Address", "IPv6Address", "IPv4Network", "IPv6Network"),
}
"""Types of the standard library that stay as they are: small, and rendered by their own code."""
_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_ENDLESS = re.compile(r"%[^%a-zA-Z]*(?:\d{4}|\*)")
"""A conversion that pads to a thousand characters and more, or to a width among the arguments."""


class BoundsKeywords(TypedDict, total=False):
    """The options that all bounded logging has in common; see `Bounds`."""

    max_bytes: int | str
    max_items: int
    max_depth: int
    allow: Iterable[type]


class Bounds:
    """
    How much of a value may go into a log.

    Args:
        max_bytes: Bytes of text (UTF-8) of all that is below a value, 8 more for each value; or a
            string such as ``"16KiB"``.
        max_items: Entries of one container.
        max_depth: Containers within containers.
        allow: Types, with what inherits from them, whose own ``repr`` or ``str`` is called, then
            cut.

    Raises:
        TypeError: An option is of the wrong kind.
        ConfigError: It is out of its range.
    """

    __slots__ = ("allow", "max_bytes", "max_depth", "max_items")

    def __init__(
        self,
        *,
        max_bytes: int | str = "16KiB",
        max_items: int = 100,
        max_depth: int = 6,
        allow: Iterable[type] = (),
    ) -> None:
        self.max_bytes = parse_bytes(max_bytes, name="max_bytes")
        if not 256 <= self.max_bytes <= 16 * 1024**2:
            raise ConfigError(
                f"max_bytes must be 256 bytes to 16 MiB (got {max_bytes!r}); "
                "larger log lines are not supported"
            )
        self.max_items = check_int(max_items, "max_items", 1, 10_000)
        self.max_depth = check_int(max_depth, "max_depth", 1, 20)
        kinds = tuple(allow) if isinstance(allow, list | tuple | set | frozenset) else None
        if kinds is None or not all(isinstance(kind, type) for kind in kinds):
            raise TypeError("allow must be types, in a tuple: allow=(Decimal, MyModel)")
        self.allow = kinds


class Walk:
    """
    Copy values into plain builtins until a budget is spent.

    Bounded by: its `Bounds`; the copies are not larger than *max_bytes* and some words for each
        place that was cut.
    Locks: none; for one thread.
    Keeps alive: nothing between two calls.
    """

    __slots__ = ("_above", "_bounds", "_render", "cut", "left")

    def __init__(self, bounds: Bounds, render: Callable[[object], str] = repr) -> None:
        self._bounds = bounds
        self._render = render
        self._above: set[int] = set()
        self.left = bounds.max_bytes
        """Bytes that may still be spent."""
        self.cut = 0
        """Number of cuts: something was left out or described."""

    def copy(self, value: object) -> Any:
        """Return *value*, or as much of it as fits. Never raises; runs no user code."""
        self.left -= _NODE
        try:
            return self._copy(value)
        except Exception as error:  # noqa: BLE001 - reason: a log line is never worth an exception in the host
            self.cut += 1
            return f"<{type_name(type(value))}: unreadable, {type_name(type(error))}>"

    def _copy(self, value: Any) -> Any:  # noqa: PLR0911 - reason: one return for each kind of value
        kind = type(value)
        if value is None or kind is bool or kind is float or kind is complex:
            return value
        if issubclass(kind, str):
            return self.text(value)
        if issubclass(kind, int):
            return self._whole(value)
        if issubclass(kind, bytes | bytearray):
            return self._octets(value)
        if issubclass(kind, float):
            return float.__pos__(value)
        if issubclass(kind, (dict, list, tuple, set, frozenset, deque)):
            return self._container(value, kind)
        if issubclass(kind, BaseException):
            return self.exception(value)
        return self._other(value, kind)

    # -- what has no parts ------------------------------------------------------------------------

    def text(self, value: str) -> str:
        """Return *value* as an exact string, cut where the budget ends."""
        length = str.__len__(value)
        head = str.__getitem__(value, slice(0, max(0, self.left)))
        size = len(head)
        if not head.isascii():
            encoded = head.encode("utf-8", "surrogatepass")
            size = len(encoded)
            if size > self.left:
                head = encoded[: max(0, self.left)].decode("utf-8", "ignore")
                size = max(0, self.left)
        self.left -= size
        return head if len(head) == length else head + self.left_out(length - len(head), "chars")

    def left_out(self, count: int, what: str) -> str:
        """Return the mark for *count* things that are left out, and count the cut."""
        self.cut += 1
        return f"…[+{count} {what}]"

    def _whole(self, value: int) -> int | str:
        bits = int.bit_length(value)
        if bits > MOST_BITS:
            self.cut += 1
            return f"<int of {bits} bits>"
        self.left -= bits // 4
        return int.__pos__(value)

    def _octets(self, value: bytes | bytearray) -> bytes | bytearray | str:
        of: Any = bytes if issubclass(type(value), bytes) else bytearray
        length = of.__len__(value)
        if length * 4 <= self.left or length <= 16:  # as they are written: \x00
            self.left -= length * 4
            return bytes(of.__getitem__(value, slice(0, length)))
        head = bytes(of.__getitem__(value, slice(0, max(0, self.left // 4))))
        self.left -= len(head) * 4
        return repr(head) + self.left_out(length - len(head), "bytes")

    # -- containers -------------------------------------------------------------------------------

    def _container(self, value: Any, kind: type) -> Any:
        base: Any = next(
            each for each in (dict, list, tuple, set, frozenset, deque) if issubclass(kind, each)
        )
        length = base.__len__(value)
        if id(value) in self._above:
            self.cut += 1
            return f"<{base.__name__} that contains itself>"
        if length and len(self._above) >= self._bounds.max_depth:
            self.cut += 1
            return f"<{type_name(kind)} of {length}>"
        self._above.add(id(value))
        try:
            if base is dict:
                return self._mapping(value, kind, length)
            return self._sequence(base, value, length)
        finally:
            self._above.discard(id(value))

    def _within(self, entries: Iterator[Any]) -> Iterator[Any]:
        """Yield entries while there is room; stop if another thread changes them."""
        try:
            for entry in itertools.islice(entries, self._bounds.max_items):
                if self.left <= 0:
                    return
                yield entry
        except RuntimeError:  # it changed size; what is missing is counted as left out
            return

    def _sequence(self, base: Any, value: Any, length: int) -> Any:
        found = [self.copy(item) for item in self._within(base.__iter__(value))]
        if len(found) < length:
            found.append(self.left_out(length - len(found), "items"))
        elif base in (set, frozenset) and all(
            type(item) in (str, int, float, bytes, bool, type(None)) for item in found
        ):
            return set(found)
        return tuple(found) if base is tuple else found

    def _mapping(self, value: Any, kind: type, length: int) -> dict[Any, Any]:
        items = OrderedDict.items if issubclass(kind, OrderedDict) else dict.items
        found: dict[Any, Any] = {}
        for key, item in self._within(iter(items(value))):
            name = self.key(key)
            if name in found:  # two keys that differ only in what was cut
                name = f"{name}#{len(found)}"
            found[name] = self.copy(item)
        if len(found) < length:
            found["…"] = self.left_out(length - len(found), "items")[1:]
        return found

    def key(self, key: object) -> Any:
        """Return *key* as a plain scalar; only builtin code hashes it."""
        found = self.copy(key)
        return found if type(found) in _SCALARS or found is None else repr(found)

    # -- others -----------------------------------------------------------------------------------

    def exception(self, error: BaseException) -> str:
        """Return the type of *error* and its arguments; its own ``__str__`` is not called."""
        if self._is_allowed(type(error)):
            return self.text(self._render(error))
        arguments = self._container(arguments_of(error), tuple)
        shown = ", ".join(map(repr, arguments)) if type(arguments) is tuple else arguments
        return f"{type_name(type(error))}({shown})"

    def _other(self, value: Any, kind: type) -> Any:
        if self._is_allowed(kind):
            return self.text(self._render(value))
        self.left -= 32
        if kind is type:
            return f"<class {type_name(value)}>"
        if type(kind) is _of("enum", "EnumMeta"):
            member = (instance_dict(value) or {}).get("_name_")
            return f"{type_name(kind)}.{clean(member)}"
        found = self._standard(value, kind)
        if found is not _NOTHING:
            return found
        self.cut += 1
        return f"<{type_name(kind)} at {id(value):#x}>"

    def _standard(self, value: Any, kind: type) -> Any:
        """Return what is shown of a type of the standard library that logs often meet."""
        if any(kind is _of(module, name) for module, names in _PLAIN.items() for name in names):
            return value
        if kind is _of("datetime", "datetime") or kind is _of("datetime", "time"):
            zone = type(value.tzinfo)
            known = (type(None), _of("datetime", "timezone"), _of("zoneinfo", "ZoneInfo"))
            return value if any(zone is each for each in known) else _NOTHING
        if any(kind is _of("pathlib", name) for name in _PATHS):
            return self.text(str(value))
        if kind is _of("decimal", "Decimal"):
            return value if sys.getsizeof(value) <= 512 else _NOTHING
        if kind is _of("fractions", "Fraction"):
            return f"{self._whole(value.numerator)}/{self._whole(value.denominator)}"
        return f"<memoryview of {value.nbytes} bytes>" if kind is memoryview else _NOTHING

    def _is_allowed(self, kind: type) -> bool:
        allow = self._bounds.allow
        return bool(allow) and any(each is base for base in mro_of(kind) for each in allow)


_SCALARS = (str, int, float, bool, bytes)
_ARGUMENTS: Any = vars(BaseException)["args"]


def arguments_of(error: BaseException) -> tuple[Any, ...]:
    """Return ``error.args``, past any property of that name."""
    arguments: tuple[Any, ...] = _ARGUMENTS.__get__(error)
    return arguments


def _of(module: str, name: str) -> Any:
    """Return a type of a module, if that is loaded: a value of it cannot exist otherwise."""
    return getattr(sys.modules.get(module), name, _NOTHING)


_NOTHING = object()


def shared(
    items: Iterable[tuple[str, object]], bounds: Bounds, walk: Walk, *, first: tuple[str, ...] = ()
) -> dict[str, Any]:
    """
    Return *items* cut to *bounds*, in their order, none at the expense of all others.

    What is small is copied first; what is large gets an equal share of what is left, and what one
    does not need is for the others.

    Args:
        items: Names and values.
        bounds: For all of them together.
        walk: What copies them, and counts.
        first: Names that are wanted even if there are more than *max_items*.
    """
    every = list(items)
    others = [at for at, pair in enumerate(every) if pair[0] not in first]
    wanted = [at for at, pair in enumerate(every) if pair[0] in first]
    kept = sorted([*wanted, *others[: bounds.max_items]], key=lambda at: _is_large(every[at][1]))
    copies: dict[int, Any] = {}
    for done, at in enumerate(kept):
        name, value = every[at]
        is_wanted = name in first
        walk.left -= min(len(name), _LONGEST_NAME)
        if walk.left <= 0 and not is_wanted:
            continue
        left = max(0, walk.left)
        walk.left = share = max(_LEAST if is_wanted else 0, left // (len(kept) - done))
        copies[at] = walk.copy(value)
        walk.left += left - share
    result: dict[str, Any] = {}
    for at in sorted(copies):
        name = every[at][0]
        result[name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…#{at}"] = copies[at]
    if len(copies) < len(every):
        result["…"] = walk.left_out(len(every) - len(copies), "items")[1:]
    return result


def _is_large(value: object) -> bool:
    kind = type(value)
    return not (kind in _SCALARS or value is None) or (kind is str and len(value) > 200)  # type: ignore[arg-type] # reason: a str


def formatted(template: str, arguments: Any, *, longest: int) -> str | None:
    """Return ``template % arguments``, of plain builtins; None if that fails or is too long."""
    if _ENDLESS.search(template) or template.count("%(") > 4 * len(arguments) + 16:
        return None
    try:
        text = template % arguments
    except Exception:  # noqa: BLE001 - reason: whatever is wrong with it, the caller has another way
        return None
    return text if len(text) <= longest else None
