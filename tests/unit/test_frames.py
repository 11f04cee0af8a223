"""Lines get their function and their owner."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest

import memguard
from memguard.leaks.evidence import frames
from memguard.leaks.evidence.frames import (
    begin_after,
    frames_of,
    functions_at,
    is_user_code,
)
from memguard.leaks.evidence.own_code import is_own_code


def outer() -> Any:
    rows = [n for n in range(3)]  # noqa: C416 - reason: a comprehension is what is tested

    def inner() -> list[int]:
        return rows

    return inner


class Shop:
    def method(self) -> int:
        return 1


kept = lambda: [1]  # noqa: E731 - reason: a lambda is what is tested

FIRST = outer.__code__.co_firstlineno
HERE = __file__


def test_a_line_is_named_by_the_innermost_function_around_it() -> None:
    method = Shop.method.__code__.co_firstlineno
    lines = {
        (HERE, FIRST): "outer",
        (HERE, FIRST + 1): "outer",
        (HERE, FIRST + 4): "inner",
        (HERE, FIRST + 6): "outer",
        (HERE, method + 1): "method",
        (HERE, kept.__code__.co_firstlineno): "<lambda>",
    }
    assert functions_at(lines) == lines


def test_a_line_of_no_function_and_of_no_file_has_no_name() -> None:
    assert functions_at([(HERE, 3), ("<string>", 1), ("/nowhere.py", 5)]) == {}
    assert functions_at([]) == {}


def test_code_of_the_library_of_packages_and_of_memguard_is_not_the_users() -> None:
    purelib = sysconfig.get_paths()["purelib"]
    assert not is_user_code(json.__file__)
    assert not is_user_code(f"{purelib}/starlette/app.py")
    assert not is_user_code("/srv/venv/lib/python3.11/site-packages/x.py")
    assert not is_user_code("/usr/lib/python3/dist-packages/x.py")
    assert not is_user_code("<frozen importlib._bootstrap>")
    assert not is_user_code(memguard.__file__)
    assert is_user_code("/srv/shop/app.py")
    assert is_user_code(HERE)
    for typed in ("<stdin>", "<python-input-0>", "<ipython-input-3-a1b2>", "<doctest shop[0]>"):
        assert is_user_code(typed)
    assert not is_user_code("<string>")  # a dataclass, a namedtuple


@pytest.mark.parametrize("key", ["stdlib", "purelib"])
def test_a_folder_that_begins_like_the_library_is_the_users(key: str) -> None:
    assert is_user_code(sysconfig.get_paths()[key] + "-shop/app.py") or key == "purelib"
    assert is_user_code(str(Path(json.__file__).parents[1]) + "-shop/app.py")


def test_own_code_is_what_lies_in_the_package() -> None:
    assert is_own_code(memguard.__file__)
    assert not is_own_code(str(Path(memguard.__file__).parent) + "-demo/app.py")
    assert not is_own_code(HERE)


def test_a_stack_becomes_frames_with_the_allocating_line_first() -> None:
    stack = ((json.__file__, 5), (HERE, FIRST + 1))
    first, second = frames_of(stack, {(HERE, FIRST + 1): "outer"})
    assert (first.file, first.line, first.function, first.in_user_code) == (
        json.__file__,
        5,
        None,
        False,
    )
    assert (second.function, second.in_user_code) == ("outer", True)


def test_a_stack_ends_where_the_program_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_runners", set())
    begin_after("/lib/runner.py")
    program = (("/srv/shop.py", 7), ("/lib/cache.py", 1), ("/srv/shop.py", 90))
    callers = (("/lib/runner.py", 5), ("/lib/runner.py", 9), ("/bin/start", 8))
    shown = frames_of((*program, *callers), {})
    assert tuple((frame.file, frame.line) for frame in shown) == program
    assert len(frames_of(program, {})) == 3  # not traced as deep as that
    assert len(frames_of(callers, {})) == 3  # what the runner itself allocated keeps its place
