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

_SLOTS: Any = vars(type)
_FLAGS = _SLOTS["__flags__"].__get__
_BASICSIZE = _SLOTS["__basicsize__"].__get__
_MRO = _SLOTS["__mro__"].__get__
_DICT = _SLOTS["__dict__"].__get__
_MODULE = _SLOTS["__module__"].__get__
_NAMESPACE = vars(types.ModuleType)["__dict__"].__get__
_INLINE_VALUES = 1 << 2
_MANAGED_DICT = 1 << 4
_HEAP_TYPE = 1 << 9
_HAS_GC = 1 << 14
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
    For an extension's object of varying size: what every instance of its type takes; see
    `is_known`.

    Thread-safe; cost: about a microsecond, more with thousands of attributes.
    """
    kind = type(obj)
    if not _FLAGS(kind) & _MANAGED_DICT:
        return own_bytes(obj, kind)
    return own_bytes(obj, kind, sum(child is not kind for child in gc.get_referents(obj)))


def own_bytes(obj: Any, kind: type, attributes: int = 0) -> int:
    """Return `shallow_size` of *obj*, of type *kind*, that refers to *attributes* objects."""
    ndarray = numpy_array()
    if ndarray is not None and issubclass(kind, ndarray):
        return int(ndarray.__sizeof__(obj))  # the data of an owner, only the header of a view
    flags = _FLAGS(kind)
    size: int = _GC_HEADER if flags & _HAS_GC else 0
    sizer = next((sizeof for base, sizeof in _SIZERS if issubclass(kind, base)), None)
    if flags & _MANAGED_DICT:
        size += 2 * _POINTER + _attribute_bytes(flags, attributes, is_plain=sizer is None)
    if sizer is None:
        sizer = _sizer_of(kind)
    # Not object.__sizeof__: it trusts a length that some types keep something else in.
    return size + (int(_BASICSIZE(kind)) if sizer is None else sizer(obj))


def _attribute_bytes(flags: int, attributes: int, *, is_plain: bool) -> int:
    """Return what the table beside an object takes for its attributes: names are its class's."""
    if not is_plain:
        attributes = 0  # what it refers to are its items, mostly
    if (flags & _INLINE_VALUES) if _TELLS_INLINE else is_plain:
        slots = attributes + 1
        return -(-(slots + 2) // _POINTER) * _POINTER + slots * _POINTER
    return 0


def _sizer_of(kind: type) -> Callable[[Any], int] | None:
    """Return the ``__sizeof__`` that a C type of the standard library has of its own, or None."""
    for base in _MRO(kind):
        sizeof = _DICT(base).get("__sizeof__") if base is not object else None
        if type(sizeof) is types.MethodDescriptorType and _is_of_python(base):
            return sizeof
    return None


def is_known(kind: type) -> bool:
    """
    Return True where the bytes of an instance of *kind* are what `shallow_size` says.

    False for what another library wrote in C, numpy's arrays excepted, and for the few types of the
    standard library that own memory of a C library: such an object may own much more.
    """
    ndarray = numpy_array()
    if ndarray is not None and issubclass(kind, (ndarray, _numpy_type("generic") or ndarray)):
        return True
    if any(issubclass(kind, base) for base, _ in _SIZERS):
        return all(_is_of_python(base) for base in _MRO(kind) if _is_written_in_c(base))
    for base in _MRO(kind):
        if not _is_written_in_c(base):
            continue
        if not _is_of_python(base) or _module_of(base) in _OPAQUE:
            return False
        if base is io.StringIO:
            return False
    return True


def _is_written_in_c(kind: type) -> bool:
    if not _FLAGS(kind) & _HEAP_TYPE:
        return True
    return any(
        (type(value) is types.MethodDescriptorType or type(value) is types.WrapperDescriptorType)
        and value.__objclass__ is kind
        for value in list(_DICT(kind).values())
    )


def _is_of_python(kind: type) -> bool:
    module = _module_of(kind)
    return module == "builtins" or module in sys.stdlib_module_names


def _module_of(kind: type) -> str:
    """Return the first part of the name of the module that *kind* is of, "" where unknown."""
    module = _DICT(kind).get("__module__")
    if type(module) is not str:  # a C type keeps it in its name only
        module = _MODULE(kind) if not _FLAGS(kind) & _HEAP_TYPE else ""
    return module.partition(".")[0] if type(module) is str else ""


def has_gc(kind: type) -> bool:
    """Return True where the collector sees what instances of *kind* refer to."""
    return bool(_FLAGS(kind) & _HAS_GC)


def numpy_array() -> Any:
    """Return ``numpy.ndarray`` where the program has numpy, else None; imports nothing."""
    return _numpy_type("ndarray")


def _numpy_type(name: str) -> Any:
    # From its namespace: a module that is imported lazily is imported when an attribute is asked.
    numpy = sys.modules.get("numpy")
    if numpy is None or not issubclass(type(numpy), types.ModuleType):
        return None
    found = _NAMESPACE(numpy).get(name)
    return found if issubclass(type(found), type) else None  # a stub for tests has something else


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
