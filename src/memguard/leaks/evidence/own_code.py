"""
What is memguard's own code? Its files, and the code that is generated for its dataclasses.

Generated code is said to come from ``<string>``, whoever had it generated: a trace of one frame
cannot tell memguard's from the program's. So memguard's gets a file name of its own.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from memguard.heap import naming

FOLDER = str(Path(__file__).parents[2])
"""Of memguard's sources."""
_GENERATED = os.path.join(FOLDER, "<generated>")  # noqa: PTH118 - reason: a name, not a path
_NAME = __name__.partition(".")[0]
_claimed: set[str] = set()  # names of our modules: bounded by them


def is_own_code(file: str) -> bool:
    """Return True for a file of memguard."""
    return file.startswith(FOLDER + os.sep)


def is_own_module(name: object) -> bool:
    """Return True for the name of a module of memguard."""
    return type(name) is str and (name == _NAME or name.startswith(_NAME + "."))


def claim_generated_code() -> None:
    """
    Let what was generated for classes of memguard (``__init__`` of a dataclass) name its owner.

    Idempotent and cheap; for the modules imported so far. Called before allocations are traced.
    """
    for name, module in list(sys.modules.items()):
        if is_own_module(name) and name not in _claimed and naming.is_module(module):
            _claimed.add(name)
            for value in list(naming.module_dict(module).values()):
                if naming.is_type(value):
                    _claim(naming.dict_of_type(value))


def _claim(attributes: Mapping[str, Any]) -> None:
    """Rename the generated functions among the *attributes* of a class, if it is one of ours."""
    if not is_own_module(attributes.get("__module__")):
        return
    for value in list(attributes.values()):
        if type(value) is types.FunctionType:
            function = getattr(value, "__wrapped__", value)  # dataclasses wrap their ``__repr__``
            if function.__code__.co_filename.startswith("<"):
                function.__code__ = function.__code__.replace(co_filename=_GENERATED)
