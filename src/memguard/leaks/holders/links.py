"""
The way from a holder down to what it holds, as text that reads like code.

``shop.app.SIGNAL.receivers[int].<closure payload>``: attributes by name, entries by the type of
their key, and what has no syntax in angle brackets. Never a value, never a key: they may be a
session or an address. What CPython puts between two objects (cells, the dict of an instance, the
steps of a task) is left out.
"""

from __future__ import annotations

import contextvars
import functools
import gc
import itertools
import sys
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from memguard.heap import naming, variables

Link = tuple[str, int]
"""The text of a link, and how many steps down it covers."""

_LRU_CACHE: type = type(functools.lru_cache(maxsize=1)(id))
_QUEUE_HAS_LIST = sys.version_info < (3, 13)
_METHODS = (types.BuiltinMethodType, types.MethodWrapperType)
_SILENT = (types.CellType, types.TracebackType, staticmethod, classmethod, types.MappingProxyType)
"""Types that stand between two objects and mean nothing to a person."""
_EXCEPTION = {
    name: vars(BaseException)[name] for name in ("__traceback__", "__cause__", "__context__")
}


def links(path: Sequence[Any]) -> str:
    """
    Return the way down *path* as text: ``".jobs"``, ``"[str].lines"``, ``".<closure payload>"``.

    Args:
        path: A holder, what it holds, what that holds and so on.
    """
    text, at = "", 0
    while at < len(path) - 1:
        name, steps = _link(path[at:])
        text += name
        at += steps
    return text


def cost(text: str) -> int:
    """Return how hard *text* is to read: what is long, private or no syntax is harder."""
    return len(text) + 12 * text.count("<") + 6 * text.count("._")


def _link(path: Sequence[Any]) -> Link:
    kind = type(path[0])
    special = next((link for base, link in _SPECIAL if issubclass(kind, base)), None)
    found = special(path) if special is not None else None
    return found or _through_tasks(path) or _attribute(path) or _entry(path)


def _attribute(path: Sequence[Any]) -> Link | None:
    """Return the link of an attribute, a slot or a class attribute."""
    holder, held = path[:2]
    below = path[2] if len(path) > 2 else None
    if type(held) is dict and below is not None:
        if naming.instance_dict(holder) is held:
            found, key = naming.find_key(held, below)
            name = f".{naming.clean(key) if found else '?'}"
            return _weak_keys(holder, name), 2
        # The dict of a class is behind a proxy for everybody but the collector.
        if naming.is_type(holder) and (name_of_below := naming.attribute_link(holder, below)):
            return name_of_below, 2
    name_of_held = naming.attribute_link(holder, held)
    if name_of_held is not None:
        return _weak_keys(holder, name_of_held), 1
    if held is type(holder):
        return ".__class__", 1
    return None


def _weak_keys(holder: Any, name: str) -> str:
    """A dict with weak keys is a dict to people: its ``data`` is how it is made."""
    return "" if name == ".data" and issubclass(type(holder), weakref.WeakKeyDictionary) else name


def _entry(path: Sequence[Any]) -> Link:
    """Return the link of an entry of a container."""
    holder, held = path[:2]
    kind = type(holder)
    if issubclass(kind, dict):
        found, key = naming.find_key(holder, held)
        if found and issubclass(type(key), weakref.ReferenceType):
            return "[weak key]", 1
        return f"[{naming.type_name(type(key))}]" if found else "[key]", 1
    if _is_named(kind, "_queue", "SimpleQueue"):
        # Up to CPython 3.12 it has a list; it has its entries themselves since.
        return "[…]", 2 if type(held) is list and _QUEUE_HAS_LIST and len(path) > 2 else 1
    if issubclass(kind, list | tuple | set | frozenset | deque):
        return "[…]", 1
    return f"<{naming.type_name(kind)}>", 1


def _function(path: Sequence[Any]) -> Link | None:
    """Name the variable of a closure, or the argument that a default is of."""
    function, held = path[:2]
    if len(path) < 3 or type(function) is not types.FunctionType:
        return None
    below, code = path[2], function.__code__
    closure, defaults, by_name = (
        function.__closure__,
        function.__defaults__,
        function.__kwdefaults__,
    )
    if closure is not None and held is closure:
        for name, cell in zip(code.co_freevars, closure, strict=False):
            if cell is below:
                return f".<closure {naming.clean(name)}>", 2
    if defaults is not None and held is defaults:
        arguments = code.co_varnames[: code.co_argcount][-len(defaults) :]
        for name, value in zip(arguments, defaults, strict=False):
            if value is below:
                return f".<default {naming.clean(name)}>", 2
    if by_name is not None and held is by_name:
        found, key = naming.find_key(by_name, below)
        return f".<default {naming.clean(key) if found else '?'}>", 2
    return None


def _method(path: Sequence[Any]) -> Link:
    return ".__self__" if path[0].__self__ is path[1] else ".__func__", 1


def _silent(_: Sequence[Any]) -> Link:
    return "", 1


def _weak_reference(_: Sequence[Any]) -> Link:
    return ".__callback__", 1


def _lru_cache(path: Sequence[Any]) -> Link | None:
    """
    Tell the results that ``functools.lru_cache`` keeps from the arguments: of a method, `self`.

    The results and the keys hang on the function itself where it has a *maxsize*, on its dict where
    not.
    """
    wrapper, held = path[:2]
    if naming.attribute_link(wrapper, held) is not None:
        return None
    cache = next(
        (
            below
            for below in gc.get_referents(wrapper)
            if type(below) is dict and below is not naming.instance_dict(wrapper)
        ),
        {},
    )
    at = 1
    if held is cache:
        if len(path) == 2:
            return "<cache>", 1
        at = 2
    if naming.type_name(type(path[at])).endswith("_lru_list_elem") and at + 1 < len(path):
        at += 1
    entry = path[at]
    if any(key is entry for key in itertools.islice(dict.__iter__(cache), naming.SCAN)):
        # The arguments stand in a tuple, a list that is hashed, or for themselves.
        inside = issubclass(type(entry), tuple | list) and at + 1 < len(path)
        return "<cache key>", at + 1 if inside else at
    return "<cache value>", at


def _thread_local(path: Sequence[Any]) -> Link | None:
    """``threading.local``: a dict by thread, with a dict of attributes for each."""
    if len(path) < 3 or type(path[1]) is not dict or type(path[2]) is not dict:
        return "", 1
    if len(path) == 3:
        return ".__dict__", 2
    found, key = naming.find_key(path[2], path[3])
    return f".{naming.clean(key) if found else '?'}", 3


def variable_of(context: contextvars.Context, path: Sequence[Any]) -> tuple[Any, int] | None:
    """Return the variable of *context* whose value is in *path*, and at which step; or None."""
    steps = {id(obj): at for at, obj in reversed(list(enumerate(path)))}
    for variable, value in list(contextvars.Context.items(context)):
        if id(value) in steps:
            return variable, steps[id(value)]
    return None


def _context(path: Sequence[Any]) -> Link | None:
    found = variable_of(path[0], path[1:])
    return found and (f"[ContextVar {naming.clean(found[0].name)!r}]", found[1] + 1)


def _suspended(path: Sequence[Any]) -> Link | None:
    """Name the local of a generator or coroutine; what it waits for is the next one to look at."""
    holder, held = path[:2]
    frame = variables.suspended_frame(holder)
    if frame is None or variables.awaited_by(holder) is held:
        return "", 1
    return _local(frame, held)


def _frame(path: Sequence[Any]) -> Link | None:
    frame, held = path[:2]
    return ("", 1) if type(held) is types.FrameType else _local(frame, held)


def _local(frame: types.FrameType, held: Any) -> Link:
    name, function = variables.name_in(frame, held), variables.function_name(frame.f_code)
    if name is None:
        return f".<value in {function}>", 1
    return f".<local {naming.clean(name)} of {function}>", 1


def _exception(path: Sequence[Any]) -> Link | None:
    error, held = path[:2]
    for name, slot in _EXCEPTION.items():
        if slot.__get__(error) is held:
            return f".{name}", 1
    return None


def _through_tasks(path: Sequence[Any]) -> Link | None:
    """A future leads to the task that waits for it, and a task to its coroutine: one step each."""
    holder, held = path[:2]
    if is_future(holder):
        if (
            variables.suspended_frame(held) is not None
            or is_future(held)
            or _calls_back(type(held))
        ):
            return "", 1
        for name in ("result", "exception"):
            slot = naming.dict_of_type(_base_of_future(holder)).get(f"_{name}")
            if type(slot) is types.GetSetDescriptorType and slot.__get__(holder) is held:
                return f".{name}()", 1
        return None
    return ("", 1) if is_future(held) and _calls_back(type(holder)) else None


def is_future(obj: object) -> bool:
    """Return True for a future or a task of asyncio's C code."""
    return _is_named(type(obj), "_asyncio", "Future")


def _base_of_future(obj: object) -> type:
    return next(
        kind for kind in naming.mro_of(type(obj)) if naming.type_name(kind) == "_asyncio.Future"
    )


def _calls_back(kind: type) -> bool:
    """Return True for the methods by which a future calls its task; their types have no name."""
    return issubclass(kind, _METHODS) or naming.type_name(kind).rpartition(".")[2].startswith(
        ("TaskStep", "TaskWakeup")
    )


def _is_named(kind: type, module: str, name: str) -> bool:
    """Return True for the type of that name in a module that is imported, or one derived of it."""
    home = sys.modules.get(module)
    if home is None or not naming.is_module(home):
        return False
    base = naming.module_dict(home).get(name)
    return naming.is_type(base) and issubclass(kind, base)


_SPECIAL: tuple[tuple[Any, Callable[[Sequence[Any]], Link | None]], ...] = (
    (_SILENT, _silent),
    (types.FunctionType, _function),
    (types.MethodType, _method),
    (_LRU_CACHE, _lru_cache),
    (threading.local, _thread_local),
    (contextvars.Context, _context),
    ((types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType), _suspended),
    (types.FrameType, _frame),
    (BaseException, _exception),
    (weakref.ReferenceType, _weak_reference),
)
