"""
What is a type, by its own slots: of which module, written in C or not, of Python or not?

Nothing of a stranger's class is called: a type is compared by ``is``, never by ``==`` or a hash.
"""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

_SLOTS: Any = vars(type)
FLAGS = _SLOTS["__flags__"].__get__
BASICSIZE = _SLOTS["__basicsize__"].__get__
MRO = _SLOTS["__mro__"].__get__
DICT = _SLOTS["__dict__"].__get__
NAME = _SLOTS["__name__"].__get__
_QUALNAME = _SLOTS["__qualname__"].__get__
_MODULE = _SLOTS["__module__"].__get__
_NAMESPACE = vars(types.ModuleType)["__dict__"].__get__
_HEAP_TYPE = 1 << 9
_HAS_GC = 1 << 14

_OF_THE_CORE = frozenset({
    "EncodingMap", "FrameLocalsProxy", "InstructionSequence", "InterpreterID",
    "NoDefaultType", "NoneType", "NotImplementedType", "UnraisableHookArgs",
    "_buffer_wrapper", "anext_awaitable", "async_generator", "async_generator_asend",
    "async_generator_athrow", "async_generator_wrapped_value", "asyncgen_hooks",
    "builtin_function_or_method", "builtin_method", "bytearray_iterator", "bytes_iterator",
    "callable_iterator", "cell", "classmethod_descriptor", "code", "coroutine",
    "coroutine_wrapper", "dict_itemiterator", "dict_items", "dict_keyiterator", "dict_keys",
    "dict_reverseitemiterator", "dict_reversekeyiterator", "dict_reversevalueiterator",
    "dict_valueiterator", "dict_values", "ellipsis", "fieldnameiterator", "formatteriterator",
    "frame", "function", "generator", "generic_alias_iterator", "getset_descriptor", "hamt",
    "hamt_array_node", "hamt_bitmap_node", "hamt_collision_node", "instancemethod", "items",
    "iterator", "keys", "line_iterator", "list_iterator", "list_reverseiterator",
    "longrange_iterator", "managedbuffer", "mappingproxy", "member_descriptor",
    "memory_iterator", "method", "method-wrapper", "method_descriptor", "module", "moduledef",
    "odict_items", "odict_iterator", "odict_keys", "odict_values", "positions_iterator",
    "range_iterator", "set_iterator", "stderrprinter", "str_ascii_iterator", "str_iterator",
    "traceback", "tuple_iterator", "values", "weakcallableproxy", "weakproxy", "weakref",
    "wrapper_descriptor",
})  # fmt: skip
"""
Types of the interpreter that no name in ``builtins`` leads to. An extension's type whose author
gave it no module says that it is of ``builtins``, too: Pillow's images, polars' frames.
"""
_BUILTINS = vars(builtins)


def has_gc(kind: type) -> bool:
    """Return True where the collector sees what instances of *kind* refer to."""
    return bool(FLAGS(kind) & _HAS_GC)


def is_written_in_c(kind: type) -> bool:
    """Return True for a type that C code made, unless it has no method of its own."""
    return not FLAGS(kind) & _HEAP_TYPE or has_methods_in_c(kind)


def has_methods_in_c(kind: type) -> bool:
    """Return True for a type with a method of its own that C code made."""
    return any(
        (type(value) is types.MethodDescriptorType or type(value) is types.WrapperDescriptorType)
        and value.__objclass__ is kind
        for value in list(DICT(kind).values())
    )


def is_of_python(kind: type) -> bool:
    """Return True for a type of the interpreter or its standard library."""
    module = package_of(kind)
    if module == "builtins":
        name = NAME(kind)
        return _BUILTINS.get(name) is kind or name in _OF_THE_CORE
    return module in sys.stdlib_module_names


def module_of(kind: type) -> str:
    """Return the full name of the module that *kind* is of, "" where unknown."""
    module = DICT(kind).get("__module__")
    if type(module) is not str:  # a C type keeps it in its name only
        module = _MODULE(kind) if not FLAGS(kind) & _HEAP_TYPE else ""
    return module if type(module) is str else ""


def package_of(kind: type) -> str:
    """Return the first part of the name of the module that *kind* is of, "" where unknown."""
    return module_of(kind).partition(".")[0]


def qualname_of(kind: type) -> str:
    """Return the name of *kind* in its module."""
    name = _QUALNAME(kind)
    return name if type(name) is str else NAME(kind)


def full_name(kind: type) -> str:
    """Return what a reader calls *kind*, such as ``lxml.etree._Element``."""
    module = module_of(kind)
    return f"{module}.{qualname_of(kind)}" if module != "builtins" else qualname_of(kind)


def type_in(module_name: str, name: str) -> Any:
    """Return the type that a loaded module has under *name*, else None; imports nothing."""
    # From its namespace: a module that is imported lazily is imported when an attribute is asked.
    module = sys.modules.get(module_name)
    if module is None or not issubclass(type(module), types.ModuleType):
        return None
    found = _NAMESPACE(module).get(name)
    return found if issubclass(type(found), type) else None  # a stub for tests has something else
