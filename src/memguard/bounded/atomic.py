"""The one atomic step that weak containers need from CPython."""

from __future__ import annotations

import _weakref
from collections.abc import Callable
from typing import Any

# Looking first and deleting afterwards would delete what another thread stored in between, and a
# lock would be held while the `__eq__` of keys runs. The `weakref` module of CPython, 3.11 to 3.15,
# and of PyPy uses the same function for the same purpose.
remove_if_dead: Callable[[dict[Any, Any], Any], None] = getattr(_weakref, "_remove_dead_weakref")  # noqa: B009 - reason: type checkers do not know it
"""``remove_if_dead(dict, key)`` deletes *key* if its value is a dead weak reference; atomic."""
