"""
Where a retaining path may end: names that can be found in the program.

Modules, classes, memguard's own containers, loggers, context variables, and locals of running
functions hold what is below them. A suspended generator or coroutine, a frame that has ended and a
class that is made by a function have names, too, but something must hold them in turn: the search
goes on past them.
"""

from __future__ import annotations

import contextvars
import enum
import logging
import sys
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from memguard.heap import naming, variables
from memguard.leaks.evidence.frames import is_user_code, is_user_module
from memguard.leaks.evidence.own_code import is_own_code, is_own_module
from memguard.leaks.holders import links


class Tier(enum.IntEnum):
    """How firmly an anchor holds what is below it."""

    NAMED = 0
    """A module, a class, a container of ours, a logger, a context variable."""
    RUNNING = 1
    """A local of a function that runs."""
    PASSING = 2
    """
    A suspended generator or coroutine, a frame that has ended, a class that a function makes:
    something must hold it.
    """
    OWN = 3
    """memguard itself, which is never reported, and above which there is nothing to find."""


@dataclass(frozen=True, slots=True)
class Anchor:
    """The named end of a path."""

    name: str
    """Down to the first object below it: ``shop.app.SESSIONS``."""
    rank: int
    """0 in the user's own code, 1 in a library: what to show first."""
    tier: Tier = Tier.NAMED
    inventory_name: str | None = None
    named: int = 1
    """Objects below the anchor that *name* covers; 0 for one that is named itself."""
    is_well_known: bool = False
    """True for what everybody knows, whoever made it: a logger."""


class Local:
    """A local variable of a running function, standing for its holder."""

    __slots__ = ("label", "user")

    def __init__(self, label: str, *, user: bool) -> None:
        self.label = label
        self.user = user


class Anchors:
    """
    Recognise anchors among the holders met on the way up.

    Bounded by: the modules imported when it was made.
    Locks: none; made and used by one thread.
    Keeps alive: the modules, until ``close``.
    """

    def __init__(self, containers: Mapping[int, tuple[str, str]]) -> None:
        self._containers = containers
        self._modules: dict[int, tuple[str, bool, dict[str, Any]]] = {}
        for name, module in list(sys.modules.items()):
            if naming.is_module(module) and type(name) is str:
                namespace = naming.module_dict(module)
                # The first name wins: __main__ is also known by its own name only to itself.
                known = (name, is_user_module(namespace), namespace)
                self._modules.setdefault(id(namespace), known)
        self._variables: dict[int, tuple[str, bool]] = {}

    def close(self) -> None:
        """Forget the program."""
        self._modules = {}
        self._containers = {}

    def of(self, path: Sequence[Any]) -> Anchor | None:  # noqa: PLR0911 - reason: one return a kind of anchor
        """
        Return the anchor that the first object of *path* is, or None.

        Args:
            path: A holder, what it holds, what that holds and so on, down to the target.
        """
        obj = path[0]
        kind = type(obj)
        if id(obj) in self._containers:
            name, what = self._containers[id(obj)]
            return Anchor(f"{what} {naming.clean(name)!r}", 0, inventory_name=name, named=0)
        if issubclass(kind, logging.Logger):
            return _logger_anchor(obj, path)
        if len(path) < 2:
            return None
        if kind is Local:
            return Anchor(obj.label, 0 if obj.user else 1, Tier.RUNNING)
        if kind is dict:
            return self._module_anchor(path)
        if kind is contextvars.Context:
            return self._context_anchor(path)
        if naming.is_type(obj):
            return class_anchor(obj, path)
        return _frame_anchor(path)

    def _module_anchor(self, path: Sequence[Any]) -> Anchor | None:
        namespace, held = path[:2]
        known = self._modules.get(id(namespace)) or _unregistered(namespace)
        if known is None:
            return None
        module, user, _ = known
        found, key = naming.find_key(namespace, held)
        return Anchor(
            f"{module}.{naming.clean(key) if found else '?'}",
            0 if user else 1,
            Tier.OWN if is_own_module(module) else Tier.NAMED,
        )

    def _context_anchor(self, path: Sequence[Any]) -> Anchor | None:
        """
        Name the context variable whose value is in *path*.

        The context that a thread is in hangs on nothing that the collector sees.
        """
        found = links.variable_of(path[0], path[1:])
        if found is None:
            return None
        variable, at = found
        name, user = self._name_of_variable(variable)
        return Anchor(name, 0 if user else 1, named=at + 1)

    def _name_of_variable(self, variable: contextvars.ContextVar[Any]) -> tuple[str, bool]:
        """Return the global that *variable* is, and whether it is the user's: asked once."""
        key = id(variable)
        if key not in self._variables:
            homes = [
                (f"{module}.{naming.clean(attribute)}.get()", user)
                for module, user, namespace in list(self._modules.values())
                for found, attribute in (naming.find_key(namespace, variable),)
                if found
            ]
            nameless = (f"ContextVar {naming.clean(variable.name)!r}", True)
            self._variables[key] = next((home for home in homes if home[1]), (*homes, nameless)[0])
        return self._variables[key]

    def is_module_dict(self, obj: object) -> bool:
        """Return True for the namespace of a module."""
        return id(obj) in self._modules

    def locals_holding(self, wanted: Collection[int]) -> Iterator[tuple[Any, int]]:
        """
        Yield a stand-in holder and the id of each wanted object that a running function's local is.

        Running frames are invisible to the collector since CPython 3.11: they are looked at here.

        Args:
            wanted: ids of objects; the ids of a dict or set, which are asked for one by one.
        """
        for frame, found in variables.running_locals(is_own_code):
            names = [(name, id(value)) for name, value in found if id(value) in wanted]
            found.clear()
            for name, key in names:
                yield _local(frame, name), key
            del frame

    def running_locals(self, *, user: bool) -> Iterator[tuple[Any, Any]]:
        """
        Yield a stand-in holder, and what it stands for, for each local of the running functions.

        Args:
            user: Whether of the user's own code, or of libraries.
        """
        for frame, found in variables.running_locals(is_own_code):
            if is_user_code(frame.f_code.co_filename) is user:
                for name, value in found:
                    yield _local(frame, name), value
                    del value
            found.clear()
            del frame


def _local(frame: types.FrameType, name: str) -> Local:
    label = variables.label(frame, name, running=True)
    return Local(label, user=is_user_code(frame.f_code.co_filename))


def _frame_anchor(path: Sequence[Any]) -> Anchor | None:
    """A local of a suspended generator or coroutine, or of a frame that has ended."""
    obj, held = path[:2]
    frame = obj if type(obj) is types.FrameType else variables.suspended_frame(obj)
    name = None if frame is None else variables.name_in(frame, held)
    if frame is None or name is None:
        return None
    user = is_user_code(frame.f_code.co_filename)
    return Anchor(variables.label(frame, name), 0 if user else 1, Tier.PASSING)


def is_suspended(obj: object) -> bool:
    """Return True for a generator or coroutine that has not ended."""
    return variables.suspended_frame(obj) is not None


def _logger_anchor(logger: logging.Logger, path: Sequence[Any]) -> Anchor | None:
    """
    Name a logger as people get at it: ``logging.getLogger('shop.orders')``.

    What all of them share hangs on the root logger, and a logger does not hold its parents.
    """
    slots = naming.instance_dict(logger) or {}
    manager, name = slots.get("manager"), slots.get("name")
    if logger is logging.root:
        return Anchor("logging.root", 0, named=0, is_well_known=True)
    shared = (manager, slots.get("parent"))
    if type(name) is not str or any(below is each for below in path[1:3] for each in shared):
        return None
    loggers = naming.dict_of_type(logging.Logger).get("manager")
    known = (naming.instance_dict(loggers) or {}).get("loggerDict")
    if type(known) is not dict or known.get(name) is not logger:
        return None
    return Anchor(f"logging.getLogger({naming.clean(name)!r})", 0, named=0, is_well_known=True)


def class_anchor(kind: type, path: Sequence[Any], *, lost: bool = False) -> Anchor | None:
    """A class attribute; its dict stands between the class and the value for the collector."""
    if not lost and naming.is_lost(kind):
        return None  # its name leads nowhere: who holds the class?
    for named in (1, 2):
        if len(path) <= named or (named == 2 and type(path[1]) is not dict):
            break
        link = naming.attribute_link(kind, path[named])
        if link is not None and not _is_of_its_making(path[named]):
            module = naming.dict_of_type(kind).get("__module__")
            home = sys.modules.get(module) if type(module) is str else None
            user = naming.is_module(home) and is_user_module(naming.module_dict(home))
            name = naming.type_name(kind)
            tier = Tier.PASSING if "<locals>" in name else Tier.NAMED
            if is_own_module(module):
                tier = Tier.OWN
            return Anchor(name + link, 0 if user else 1, tier, named=named)
    return None  # reached through its mro or subclasses, not as an attribute


def _is_of_its_making(obj: object) -> bool:
    """Return True for what a class is made with and what leads back to it: ``__weakref__``."""
    kind = type(obj)
    return kind is types.GetSetDescriptorType or kind is types.MemberDescriptorType


def _unregistered(namespace: dict[Any, Any]) -> tuple[str, bool, dict[Any, Any]] | None:
    """Return what is known of a module that is not in ``sys.modules``: a plugin, a script run."""
    if not dict.__contains__(namespace, "__builtins__"):
        return None
    name = namespace.get("__name__")
    if type(name) is not str:
        return None
    return naming.clean(name), is_user_module(namespace), namespace
