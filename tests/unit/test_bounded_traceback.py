"""An exception as text of bounded size."""

from __future__ import annotations

import traceback
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from memguard.integrations.logging.traceback import bounded_traceback
from memguard.integrations.logging.values import Bounds
from tests.hostile_values import throw

MiB = 1024**2


def bounds(**options: Any) -> Bounds:
    chosen: dict[str, Any] = {"max_bytes": 8192, "max_items": 20, "max_depth": 4, "allow": ()}
    return Bounds(**{**chosen, **options})


def raised(error: BaseException) -> BaseException:
    try:
        throw(error)
    except BaseException as caught:  # noqa: BLE001 - reason: of every kind
        return caught


def text_of(error: BaseException, **options: Any) -> str:
    return bounded_traceback(error, bounds(**options))


def fail(depth: int) -> None:
    secret = "hunter2" * 100_000  # noqa: F841 - reason: a local variable that must not be shown
    if depth:
        fail(depth - 1)
    raise KeyError("customer")


def caught(depth: int) -> BaseException:
    try:
        fail(depth)
    except KeyError as error:
        return error
    raise AssertionError


def test_it_reads_like_pythons_own() -> None:
    error = caught(2)
    text = text_of(error)
    theirs = "".join(traceback.format_exception(error))
    without_carets = [line for line in theirs.splitlines() if set(line.strip()) - set("^~")]
    assert text.splitlines() == without_carets


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ValueError("two", 2),
        ValueError(),
        ValueError(["list"]),
        KeyError("key"),
        FileNotFoundError(2, "No such file or directory", "/a"),
        OSError("only words"),
        OSError(18, "Invalid cross-device link", "/a", None, "/b"),
        UnicodeDecodeError("utf-8", b"x" * 50, 3, 4, "invalid start byte"),
        ImportError("no module"),
        SystemExit(3),
        ZeroDivisionError("division by zero"),
    ],
    ids=repr,
)
def test_the_last_line_is_pythons_own_where_no_stranger_is_asked(error: BaseException) -> None:
    assert text_of(error) == "".join(traceback.format_exception_only(error)).rstrip()


def test_no_local_variable_is_shown_or_rendered() -> None:
    error = caught(3)
    text_of(error)  # reads the source
    tracemalloc.start()
    try:
        text = text_of(error)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "hunter2hunter2" not in text
    assert peak < 256 * 1024


def test_a_deep_recursion_shows_its_ends() -> None:
    text = text_of(caught(500))
    assert "frames are not shown]" in text
    assert len(text) < 8192
    assert text.endswith("KeyError: 'customer'")
    assert "in caught" in text


def test_a_small_bound_keeps_the_error_and_the_frame_next_to_it() -> None:
    text = text_of(caught(50), max_bytes=256)
    assert len(text) <= 512
    assert text.endswith("raise KeyError(\"customer\")\nKeyError: 'customer'")


@pytest.mark.parametrize("size", [256, 1024, 8192])
def test_a_giant_message_is_cut(size: int) -> None:
    error = raised(ValueError("x" * (50 * MiB)))
    error.__dict__["__notes__"] = ["n" * (10 * MiB)] * 1000
    tracemalloc.start()
    try:
        text = text_of(error, max_bytes=size)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(text) <= 2 * size + 40
    assert peak < MiB
    assert "chars]" in text or "chars cut]" in text


def test_the_text_of_a_stranger_is_not_asked_for_unless_it_is_allowed() -> None:
    class Loud(Exception):  # noqa: N818 - reason: a name
        def __str__(self) -> str:
            return "!" * 10_000

    assert text_of(Loud("quiet")).endswith("Loud: quiet")
    allowed = text_of(Loud("quiet"), allow=(Exception,))
    assert "!!!" in allowed
    assert "quiet" not in allowed
    assert len(allowed) < 8192


def test_a_stranger_that_fails_is_not_the_hosts_trouble() -> None:
    class Broken(Exception):  # noqa: N818 - reason: a name
        def __str__(self) -> str:
            raise ZeroDivisionError

    assert "unreadable: ZeroDivisionError" in text_of(Broken(), allow=(Broken,))


def chained(count: int) -> BaseException:
    error: BaseException = ValueError("number 0")
    for number in range(1, count):
        following = ValueError(f"number {number}")
        following.__cause__ = error
        error = following
    return error


def test_a_chain_reads_as_pythons_and_a_long_one_keeps_its_end() -> None:
    short = chained(3)
    assert text_of(short).splitlines() == "".join(traceback.format_exception(short)).splitlines()
    text = text_of(chained(1000))
    assert text.startswith("[earlier exceptions are not shown]")
    assert text.endswith("ValueError: number 999")


def test_what_was_raised_while_handling_is_told_unless_it_was_suppressed() -> None:
    try:
        try:
            throw(KeyError("first"))
        except KeyError:
            raise ValueError("second")  # noqa: B904 - reason: the context is what is tested
    except ValueError as error:
        context = error
    assert "During handling" in text_of(context)
    context.__suppress_context__ = True
    assert "first" not in text_of(context)


def test_a_chain_that_bites_its_tail_comes_to_an_end() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert text_of(first).count("ValueError") == 2


def test_notes_are_shown() -> None:
    error = ValueError("x")
    error.__dict__["__notes__"] = ["see page 3", 7]
    assert text_of(error).endswith("see page 3\n7")
    error.__dict__["__notes__"] = list(map(str, range(50)))
    assert text_of(error).endswith("[40 more notes are not shown]")


def test_a_giant_group_shows_some_of_its_members() -> None:
    group: ExceptionGroup[Any] = ExceptionGroup(
        "many", [ValueError(f"m{n}") for n in range(10_000)]
    )
    for _ in range(6):
        group = ExceptionGroup("outer", [group, KeyError("k")])
    text = text_of(group)
    assert text.startswith("ExceptionGroup: outer (2 sub-exceptions)")
    assert "groups this deep are not shown" in text
    assert len(text) < 16384
    wide = text_of(ExceptionGroup("many", [ValueError("m" * MiB) for _ in range(9)]))
    assert "more exceptions are not shown" in wide
    assert len(wide) <= 16384


def test_another_traceback_may_be_shown() -> None:
    error, other = caught(0), ValueError("new")
    text = bounded_traceback(other, bounds(), traceback=error.__traceback__)
    assert "in fail" in text


def test_a_file_name_cannot_start_a_line_of_its_own(tmp_path: Path) -> None:
    code = compile("1 / 0", f"{tmp_path}/x\nCRITICAL all is well", "exec")
    with pytest.raises(ZeroDivisionError) as caught:
        exec(code, {})  # noqa: S102 - reason: the way to a file name of one's choice
    assert "\nCRITICAL" not in text_of(caught.value)
