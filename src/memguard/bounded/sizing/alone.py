"""
How many bytes is one object alone, and what does it refer to that is data?

Sizes come from C types through their own methods: no ``__sizeof__``, ``__len__``, ``__class__`` or
property of anybody else's class is called, and no ``__eq__`` or ``__hash__`` of its metaclass. What
an object refers to comes from ``gc.get_referents``, which asks C code alone.
"""

from __future__ import annotations

import builtins
import collections
import gc
import io
import itertools
import operator
import sys
import types
from array import array
from collections.abc import Callable
from typing import Any

from memguard.bounded.sizing import libraries
from memguard.bounded.sizing.kinds import (
    BASICSIZE,
    DICT,
    FLAGS,
    MRO,
    has_gc,
    is_of_python,
    is_written_in_c,
    package_of,
    type_in,
)

# Types are compared by id or `is`: hashing a class may run code of its metaclass. Builtins live for
# ever, so that no other type gets their ids.
_SIZERS: tuple[tuple[type, Callable[[Any], int]], ...] = tuple(
    (base, base.__sizeof__)
    for base in (
        collections.OrderedDict, dict, list, tuple, set, frozenset, collections.deque,
        str, bytes, bytearray, array, int, io.BytesIO, memoryview,
        type, types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType, types.FrameType,
        types.CodeType,
    )
)  # fmt: skip
"""Types whose instances are not all of one size, and the method that knows: first match counts."""

_INLINE_VALUES = 1 << 2
_MANAGED_DICT = 1 << 4
_TELLS_INLINE = sys.version_info >= (3, 13)
"""From here on a flag says whether attributes lie in the object; before, plain classes have it."""
_GC_HEADER = sys.getsizeof([]) - [].__sizeof__()
_POINTER = 8

_OPAQUE = frozenset({
    "_bz2", "_ctypes", "_curses", "_curses_panel", "_dbm", "_gdbm", "_hashlib", "_lzma", "_sqlite3",
    "_ssl", "_tkinter", "mmap", "pyexpat", "sqlite3", "zlib", "_zstd", "ctypes",
})  # fmt: skip
"""Modules of the standard library whose objects own memory that only a C library knows."""


def shallow_size(obj: object) -> int:
    """
    Return the bytes of *obj* alone, attributes in its own table included, contents not.

    For any object: classes, functions and generators weigh what they weigh, unlike in `size_of`.
    For a listed library's object, its data included; for an unknown one of varying size what every
    instance of its type takes: see `is_known`.

    Thread-safe; cost: about a microsecond, more with thousands of attributes.
    """
    kind = type(obj)
    if not FLAGS(kind) & _MANAGED_DICT:
        return own_bytes(obj, kind)
    return own_bytes(obj, kind, sum(child is not kind for child in gc.get_referents(obj)))


def own_bytes(obj: Any, kind: type, attributes: int = 0) -> int:
    """Return `shallow_size` of *obj*, of type *kind*, that refers to *attributes* objects."""
    own, _, data = own_and_shared(obj, kind, attributes)
    return own + data


def own_and_shared(obj: Any, kind: type, attributes: int = 0) -> tuple[int, int, int]:
    """Return `own_bytes` in parts: its own, and data that others may share, after their key."""
    reader = libraries.reader_of(kind)
    found = None if reader is None else libraries.read(obj, reader)
    if found is None or found.own < 0:
        return plain_bytes(obj, kind, attributes), 0, 0
    if found.key > 0:  # those of an object, which counts them
        return found.own, 0, 0
    return found.own, found.key, found.data


def plain_bytes(obj: Any, kind: type, attributes: int = 0) -> int:
    """Return `own_bytes` of what no library is asked about."""
    traits = libraries.traits_of(kind)
    if traits.sizeof is None:
        traits.sizeof = _sizer_of(kind)
    flags, header, is_plain, sizer = traits.sizeof
    size: int = header
    if flags & _MANAGED_DICT:
        size += 2 * _POINTER + _attribute_bytes(flags, attributes, is_plain=is_plain)
    return size if sizer is None else size + sizer(obj)


def _sizer_of(kind: type) -> tuple[int, int, bool, Callable[[Any], int] | None]:
    """Return flags of *kind*, what each instance takes, if that is all, and what knows the rest."""
    flags = FLAGS(kind)
    header = _GC_HEADER if has_gc(kind) else 0
    sizer = next((sizeof for base, sizeof in _SIZERS if issubclass(kind, base)), None)
    is_plain = sizer is None
    if sizer is None:
        sizer = _method_of(kind)
    # Not object.__sizeof__: it trusts a length that some types keep something else in.
    return flags, header if sizer is not None else header + int(BASICSIZE(kind)), is_plain, sizer


def _attribute_bytes(flags: int, attributes: int, *, is_plain: bool) -> int:
    """Return what the table beside an object takes for its attributes: names are its class's."""
    if not is_plain:
        attributes = 0  # what it refers to are its items, mostly
    if (flags & _INLINE_VALUES) if _TELLS_INLINE else is_plain:
        slots = attributes + 1
        return -(-(slots + 2) // _POINTER) * _POINTER + slots * _POINTER
    return 0


def _method_of(kind: type) -> Callable[[Any], int] | None:
    """Return the ``__sizeof__`` that a C type of the standard library has of its own, or None."""
    for base in MRO(kind):
        sizeof = DICT(base).get("__sizeof__") if base is not object else None
        if type(sizeof) is types.MethodDescriptorType and is_of_python(base):
            return sizeof
    return None


def is_known(kind: type) -> bool:
    """
    Return True where the bytes of an instance of *kind* are what `shallow_size` says.

    False for what another library wrote in C, those of `libraries` excepted, and for the few types
    of the standard library that own memory of a C library: such an object may own much more.
    """
    traits = libraries.traits_of(kind)
    if traits.is_known is None:
        traits.is_known = traits.read is not None or _is_known(kind)
    return traits.is_known


def _is_known(kind: type) -> bool:
    generic = type_in("numpy", "generic")
    if generic is not None and issubclass(kind, generic):
        return True
    if any(issubclass(kind, base) for base, _ in _SIZERS):
        return all(is_of_python(base) for base in MRO(kind) if is_written_in_c(base))
    for base in MRO(kind):
        if not is_written_in_c(base):
            continue
        if libraries.is_transparent(base):
            continue
        if not is_of_python(base) or package_of(base) in _OPAQUE:
            return False
        if base is io.StringIO:
            return False
    return True


def numpy_array() -> Any:
    """Return ``numpy.ndarray`` where the program has numpy, else None; imports nothing."""
    return type_in("numpy", "ndarray")


def array_contents(ndarray: Any, array: Any, limit: int) -> tuple[list[Any], bool]:
    """
    Return what a numpy *array* keeps alive, and whether that is all.

    A view keeps the owner of its data, which has the elements; an array of objects up to *limit* of
    those.
    """
    owner = ndarray.base.__get__(array)
    if owner is not None:
        return [owner], True
    dtype = ndarray.dtype.__get__(array)
    if not dtype.hasobject:
        return [], True
    if dtype.kind != "O":
        return [], False
    some = list(itertools.islice(ndarray.flat.__get__(array), limit))
    return some, ndarray.size.__get__(array) <= limit


def data_of(obj: Any, kind: type) -> list[Any]:
    """
    Return what *obj* refers to, duplicates included, without code and what surrounds code.

    Of a function, generator, coroutine or frame: its closure, its defaults, its locals; not its
    code, its module's namespace, nor the frames that called it.
    """
    if issubclass(kind, types.ModuleType):
        return []  # never opened, see `memguard.heap.walk`
    below = gc.get_referents(obj)
    if issubclass(kind, dict):
        return below + _hidden_keys(obj, kind)
    if issubclass(kind, _RUNS_CODE):
        caller = obj.f_back if kind is types.FrameType else None
        return [child for child in below if child is not caller and not is_around_code(child, kind)]
    return below


def _hidden_keys(mapping: Any, kind: type) -> list[Any]:
    """Return the references to keys that the collector is not shown, for they are in no cycle."""
    try:
        keys = list(dict.keys(mapping))
    except RuntimeError:  # it changed meanwhile
        return []
    hidden = keys if all(map(operator.is_, map(type, keys), itertools.repeat(str))) else []
    # Each node of an OrderedDict refers to its key once more.
    return hidden + keys if issubclass(kind, collections.OrderedDict) else hidden


_RUNS_CODE = (
    types.FunctionType, types.FrameType,
    types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType,
)  # fmt: skip
_BUILTINS = vars(builtins)


def is_around_code(child: Any, kind: type) -> bool:
    """Return True for what belongs to the code that an object of type *kind* runs."""
    below = type(child)
    if below is str:  # a function's name and text, which its code has, too
        return kind is types.FunctionType
    return (
        below is types.CodeType
        or child is _BUILTINS
        or (below is dict and dict.__contains__(child, "__builtins__"))
    )


def is_made_by_a_call(function: types.FunctionType) -> bool:
    """Return True for a closure or a function in a function: each call makes another one."""
    return function.__closure__ is not None or "<locals>" in function.__qualname__


def receiver_of(function: types.BuiltinFunctionType) -> Any:
    """Return what a method written in C is bound to, such as a buffer; None for a function."""
    owner = function.__self__
    if issubclass(type(owner), types.ModuleType | type):
        return None
    return owner
