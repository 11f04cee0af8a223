"""
Name objects without running their code: types, attributes, and which of them is an object.

Everything is read through the slots of CPython's own types, so that no property, proxy or
metaclass of the host's runs: a lazy settings object stays asleep. Types are compared by ``is`` and
``issubclass`` against plain types, never by ``==``, ``in`` or hash, which a metaclass may define.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Iterator
from typing import Any, TypeGuard

from memguard.bounded.sizing import has_methods_in_c

_TYPE_SLOTS: Any = vars(type)
_MODULE_DICT: Any = vars(types.ModuleType)["__dict__"]
SCAN = 200_000
"""Entries of one container that are compared to find a link's name."""
SHORT = 120
"""Longest name that goes into a report whole."""


def mro_of(kind: type) -> tuple[type, ...]:
    """Return the method resolution order of *kind*, past any metaclass."""
    order: tuple[type, ...] = _TYPE_SLOTS["__mro__"].__get__(kind)
    return order


def dict_of_type(kind: type) -> types.MappingProxyType[str, Any]:
    """Return the attributes that *kind* itself defines, past any metaclass."""
    attributes: types.MappingProxyType[str, Any] = _TYPE_SLOTS["__dict__"].__get__(kind)
    return attributes


def is_type(obj: object) -> TypeGuard[type]:
    """Return True for a class; a proxy that lies about ``__class__`` is none."""
    return issubclass(type(obj), type)


def is_module(obj: object) -> TypeGuard[types.ModuleType]:
    """Return True for a module; a proxy that lies about ``__class__`` is none."""
    return issubclass(type(obj), types.ModuleType)


def module_dict(module: types.ModuleType) -> dict[str, Any]:
    """Return the namespace of *module*, past any ``__getattribute__`` of its class."""
    namespace: dict[str, Any] = _MODULE_DICT.__get__(module)
    return namespace


def type_name(kind: type) -> str:
    """Return ``"collections.OrderedDict"``, ``"dict"``: the full name, builtins without module."""
    qualname = clean(_TYPE_SLOTS["__qualname__"].__get__(kind))
    module = dict_of_type(kind).get("__module__")
    if type(module) is not str:  # a C type keeps it in its name only
        full: str = _TYPE_SLOTS["__module__"].__get__(kind) if not _is_heap(kind) else ""
        module = full if type(full) is str else ""
    return qualname if module in ("builtins", "") else f"{clean(module)}.{qualname}"


def base_names(kind: type) -> tuple[str, ...]:
    """Return the full names of *kind* and its base types, ``object`` left out."""
    return tuple(type_name(each) for each in mro_of(kind) if each is not object)


def _is_heap(kind: type) -> bool:
    flags: int = _TYPE_SLOTS["__flags__"].__get__(kind)
    return bool(flags & (1 << 9))  # Py_TPFLAGS_HEAPTYPE


def is_lost(kind: type) -> bool:
    """
    Return True for a class that its name does not lead to: made by a call, over and over perhaps.

    Such a class is data, and its name is no place. One of a class statement in a function is not
    lost: the statement can be found. Where that is unknown, it is not lost.
    """
    module = dict_of_type(kind).get("__module__")
    qualname = _TYPE_SLOTS["__qualname__"].__get__(kind)
    if not _is_heap(kind) or type(module) is not str or type(qualname) is not str:
        return False
    home = sys.modules.get(module)
    if home is None or not is_module(home) or "<locals>" in qualname:
        return False
    attributes: Any = module_dict(home)
    found: Any = None
    for part in qualname.split("."):
        found = attributes.get(part)
        if not is_type(found):
            return True
        attributes = dict_of_type(found)
    return found is not kind


def is_of_an_extension(kind: type) -> bool:
    """Return True for a class written in C outside Python's builtins: it may own memory of C."""
    return "." in type_name(kind) and has_methods_in_c(kind)


def clean(text: Any) -> str:
    """Return *text* if it is a printable name, shortened; ``"?"`` for anything else."""
    if type(text) is not str:
        return "?"
    printable = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    return printable if len(printable) <= SHORT else printable[: SHORT - 1] + "…"


def instance_dict(obj: object) -> dict[str, Any] | None:
    """Return the attribute dict of *obj* where it has a plain one, without its class's help."""
    for kind in mro_of(type(obj)):
        descriptor = dict_of_type(kind).get("__dict__")
        if descriptor is not None:
            if not (
                type(descriptor) is types.GetSetDescriptorType
                or type(descriptor) is types.MemberDescriptorType
            ):
                return None  # a property of that name would run the host's code
            namespace = descriptor.__get__(obj)
            return namespace if type(namespace) is dict else None
    return None


def slots_of(obj: object) -> Iterator[tuple[str, Any]]:
    """Yield the (name, value) of the ``__slots__`` of *obj* that are set."""
    for kind in mro_of(type(obj)):
        for name, descriptor in list(dict_of_type(kind).items()):
            if type(descriptor) is types.MemberDescriptorType:
                try:
                    yield name, descriptor.__get__(obj)
                except AttributeError:
                    continue


class StandsFor:
    """What is at a *key* of its holder, whatever is there when a name is asked for."""

    __slots__ = ("is_attribute", "key")

    def __init__(self, key: Any, *, is_attribute: bool) -> None:
        self.key = key
        self.is_attribute = is_attribute


def _stands(obj: object) -> TypeGuard[StandsFor]:
    """Return True for what stands for something else; a proxy that lies about itself does not."""
    return issubclass(type(obj), StandsFor)


def find_key(mapping: dict[Any, Any], value: object) -> tuple[bool, Any]:
    """Return (True, key) of the entry of *mapping* that is *value*; (False, None) without one."""
    if _stands(value):
        return True, value.key
    try:
        for key, item in itertools.islice(dict.items(mapping), SCAN):
            if item is value:
                return True, key
    except RuntimeError:  # it changed size meanwhile; a name is not worth a second try
        pass
    return False, None


def attribute_link(holder: object, held: object) -> str | None:
    """Return ``".name"`` when *held* is an attribute, slot or class attribute of *holder*."""
    if _stands(held):
        return f".{clean(held.key)}" if held.is_attribute or is_type(holder) else None
    if is_type(holder):
        attributes = list(dict_of_type(holder).items())
        return next((f".{clean(name)}" for name, value in attributes if value is held), None)
    namespace = instance_dict(holder)
    if namespace is not None:
        if namespace is held:
            return ""
        found, key = find_key(namespace, held)
        if found:
            return f".{clean(key)}"
    return next((f".{clean(name)}" for name, value in slots_of(holder) if value is held), None)
