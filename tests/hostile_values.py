"""Values that answer whatever is asked of them with an error: to be logged, none may be asked."""

from __future__ import annotations

import enum
from typing import Any, NoReturn


class Color(enum.Enum):
    RED = 1


class Hostile:
    """Whatever it is asked, it answers with an error: to be logged, it must not be asked."""

    def _refuse(self, *_: object) -> Any:
        raise AssertionError("a stranger's code was run")

    __repr__ = __str__ = __len__ = __iter__ = __bool__ = __hash__ = __eq__ = _refuse
    __getattribute__ = __format__ = __int__ = __index__ = __float__ = __reduce__ = _refuse


class HostileDict(dict[Any, Any]):
    __repr__ = __len__ = __iter__ = items = keys = __getitem__ = Hostile._refuse


class HostileList(list[Any]):
    __repr__ = __len__ = __iter__ = __getitem__ = Hostile._refuse


class HostileText(str):
    __slots__ = ()
    __repr__ = __str__ = __len__ = __getitem__ = encode = Hostile._refuse  # type: ignore[assignment] # reason: hostile


class HostileNumber(int):
    __repr__ = __str__ = __index__ = bit_length = __pos__ = Hostile._refuse


class HostileError(Exception):
    __str__ = __repr__ = Hostile._refuse
    args = property(Hostile._refuse)


def throw(error: BaseException) -> NoReturn:
    """Raise *error*."""
    raise error
