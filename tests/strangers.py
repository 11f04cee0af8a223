"""Objects of a stranger that must not be touched: whatever is asked of them raises and is told."""

from __future__ import annotations

import types
import weakref
from typing import Any

touched: list[str] = []
"""What was asked of any of them since ``make`` was called."""


class TouchedError(RuntimeError):
    """Somebody asked."""

    def __init__(self, what: str) -> None:
        touched.append(what)
        super().__init__(f"a stranger was touched: {what}")


class HostileMeta(type):
    """A metaclass that answers nothing."""

    def __eq__(cls, other: object) -> bool:
        raise TouchedError("metaclass __eq__")

    def __hash__(cls) -> int:
        raise TouchedError("metaclass __hash__")

    def __bool__(cls) -> bool:
        raise TouchedError("metaclass __bool__")

    def __getattribute__(cls, name: str) -> Any:
        if name in _MACHINERY:
            return super().__getattribute__(name)
        raise TouchedError(f"metaclass __getattribute__ {name}")

    def __instancecheck__(cls, instance: object) -> bool:
        raise TouchedError("metaclass __instancecheck__")

    def __subclasscheck__(cls, subclass: type) -> bool:
        raise TouchedError("metaclass __subclasscheck__")

    def __len__(cls) -> int:
        raise TouchedError("metaclass __len__")

    def __repr__(cls) -> str:
        raise TouchedError("metaclass __repr__")


# CPython itself asks for these where an instance is made.
_MACHINERY = ("__new__", "__init__", "__call__", "__setattr__")


class OfHostileMeta(metaclass=HostileMeta):
    """An instance that is fine, of a class that is not."""

    def __init__(self, held: object) -> None:
        self.held = held


class Proxy:
    """Lies about its class and forwards everything to nowhere."""

    def __init__(self, held: object) -> None:
        object.__setattr__(self, "held", held)

    @property  # type: ignore[misc] # reason: this is the lie
    def __class__(self) -> type:
        raise TouchedError("proxy __class__")

    def __getattribute__(self, name: str) -> Any:
        raise TouchedError(f"proxy __getattribute__ {name}")

    def __getattr__(self, name: str) -> Any:
        raise TouchedError(f"proxy __getattr__ {name}")

    def __eq__(self, other: object) -> bool:
        raise TouchedError("proxy __eq__")

    def __hash__(self) -> int:
        raise TouchedError("proxy __hash__")

    def __bool__(self) -> bool:
        raise TouchedError("proxy __bool__")

    def __len__(self) -> int:
        raise TouchedError("proxy __len__")

    def __iter__(self) -> Any:
        raise TouchedError("proxy __iter__")

    def __sizeof__(self) -> int:
        raise TouchedError("proxy __sizeof__")

    def __repr__(self) -> str:
        raise TouchedError("proxy __repr__")


class DictProperty:
    """A class whose ``__dict__`` is a property."""

    __slots__ = ("held",)

    def __init__(self, held: object) -> None:
        self.held = held

    @property
    def __dict__(self) -> Any:  # type: ignore[override] # reason: this is what is tested
        raise TouchedError("property __dict__")


class HostileDict(dict[Any, Any]):
    """A dict that overrides what a walk could ask of it."""

    def __len__(self) -> int:
        raise TouchedError("dict __len__")

    def __iter__(self) -> Any:
        raise TouchedError("dict __iter__")

    def __getitem__(self, key: Any) -> Any:
        raise TouchedError("dict __getitem__")

    def __contains__(self, key: object) -> bool:
        raise TouchedError("dict __contains__")

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ARG002 - reason: the signature of dict
        raise TouchedError("dict get")

    def items(self) -> Any:
        raise TouchedError("dict items")

    def values(self) -> Any:
        raise TouchedError("dict values")

    def __reversed__(self) -> Any:
        raise TouchedError("dict __reversed__")

    def __sizeof__(self) -> int:
        raise TouchedError("dict __sizeof__")


class HostileList(list[Any]):
    """A list that overrides what a walk could ask of it."""

    def __len__(self) -> int:
        raise TouchedError("list __len__")

    def __iter__(self) -> Any:
        raise TouchedError("list __iter__")

    def __getitem__(self, key: Any) -> Any:
        raise TouchedError("list __getitem__")

    def __sizeof__(self) -> int:
        raise TouchedError("list __sizeof__")


class HostileModule(types.ModuleType):
    """A module that is loaded as soon as somebody looks."""

    def __getattribute__(self, name: str) -> Any:
        raise TouchedError(f"module __getattribute__ {name}")


class Weak:
    """Something to refer to weakly."""


def make(held: object) -> list[Any]:
    """Return one of each, all of them holding *held*."""
    touched.clear()
    half_dead = Weak()
    proxy = weakref.proxy(half_dead)
    hostile_dict = HostileDict()
    dict.__setitem__(hostile_dict, "held", held)
    hostile_list = HostileList()
    list.append(hostile_list, held)
    module = HostileModule("stranger")
    types.ModuleType.__setattr__(module, "held", held)
    del half_dead
    return [
        OfHostileMeta(held),
        Proxy(held),
        DictProperty(held),
        hostile_dict,
        hostile_list,
        module,
        proxy,
        OfHostileMeta,
    ]
