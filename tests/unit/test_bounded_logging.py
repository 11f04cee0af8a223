"""A filter and a formatter that cut log records to size."""

from __future__ import annotations

import copy
import io
import logging
import queue
import sys
import tracemalloc
from collections.abc import Callable
from logging.handlers import QueueHandler
from typing import Any

import pytest

from memguard.errors import ConfigError
from memguard.integrations.logging.stdlib import BoundedFilter, BoundedFormatter, changes
from memguard.integrations.logging.values import Bounds
from tests.hostile_values import Color, Hostile, throw

MiB = 1024**2
FORMAT = "%(levelname)s %(message)s"


@pytest.fixture(params=["filter", "formatter"])
def written(request: pytest.FixtureRequest) -> tuple[logging.Logger, io.StringIO]:
    """Return a logger that is cut to size in one of the two ways, and what it writes."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    if request.param == "filter":
        handler.setFormatter(logging.Formatter(FORMAT))
        handler.addFilter(BoundedFilter(max_bytes=2048, max_items=10))
    else:
        inner = logging.Formatter(FORMAT)
        handler.setFormatter(BoundedFormatter(inner, max_bytes=2048, max_items=10))
    logger = logging.Logger("own", logging.DEBUG)  # noqa: LOG001 - reason: pytest would listen
    logger.addHandler(handler)
    return logger, stream


Written = tuple[logging.Logger, io.StringIO]


@pytest.mark.parametrize(
    ("message", "arguments", "line"),
    [
        ("plain", (), "plain"),
        ("100 %", (), "100 %"),
        ("%s and %d, %.2f, %r", ("a", 2, 0.5, "q"), "a and 2, 0.50, 'q'"),
        ("%(a)s-%(b)d", ({"a": "x", "b": 3},), "x-3"),
        ("%s", ([1, 2],), "[1, 2]"),
        ("%s", (Color.RED,), "tests.hostile_values.Color.RED"),
        (ValueError("as message"), (), "ValueError('as message')"),
        (42, (), "42"),
    ],
)
def test_a_small_record_is_written_as_ever(
    written: Written, message: Any, arguments: Any, line: str
) -> None:
    logger, stream = written
    logger.info(message, *arguments)
    assert stream.getvalue() == f"INFO {line}\n"


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda: ("%s", "x" * (100 * MiB)), "chars]"),
        (lambda: ("%r", ["x" * MiB] * 100), "…"),
        (lambda: ("%d", 1 << (8 * MiB)), "<int of 8388609 bits>"),
        (lambda: ("x" * (100 * MiB),), "chars]"),
        (lambda: ("x" * (100 * MiB) + "%s", 1), "chars]"),
        (lambda: ("%s %r", Hostile(), Hostile()), "Hostile at 0x"),
        (lambda: (Hostile(),), "Hostile at 0x"),
        (lambda: (Hostile(), 1), "Hostile at 0x"),
        (lambda: ("%s", {"a": "b" * MiB}), "…"),
        (lambda: ("%99999999d", 1), "%99999999d (1,)"),
        (lambda: ("%d", "not a number"), "%d ('not a number',)"),
        (lambda: ("too many", 1, 2), "too many (1, 2)"),
        (lambda: ("%s" * 30, *range(30)), "[+20 items]"),
    ],
)
def test_a_giant_or_hostile_record_is_cut_and_fails_nobody(
    written: Written, make: Callable[[], tuple[Any, ...]], part: str
) -> None:
    message, *arguments = make()
    logger, stream = written
    logger.info("warm up")
    tracemalloc.start()
    try:
        logger.info(message, *arguments)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert part in stream.getvalue()
    assert len(stream.getvalue()) < 20_000
    assert peak < MiB


def test_an_exception_is_cut_and_its_frames_are_let_go(written: Written) -> None:
    logger, stream = written
    try:
        throw(ValueError("z" * (50 * MiB)))
    except ValueError:
        logger.exception("failed")
    text = stream.getvalue()
    assert "Traceback (most recent call last):" in text
    assert "chars]" in text
    assert len(text) < 6000


def record(message: Any = "m", *arguments: Any, **more: Any) -> logging.LogRecord:
    made = logging.LogRecord("n", logging.INFO, __file__, 1, message, arguments, None)
    made.__dict__.update(more)
    return made


def test_what_is_extra_is_cut_too() -> None:
    bounds = Bounds(max_bytes=1024, max_items=3, max_depth=3)
    extra = {"user": 7, "body": "b" * MiB, "a": 1, "c": 2}
    found = changes(record(**extra), bounds)
    assert found["user"] == 7
    assert len(found["body"]) < 1100
    assert [found[name] for name in ("a", "c")].count(None) <= 1


def test_the_template_stays_for_those_who_group_by_it() -> None:
    found = changes(
        record("user %s", "x" * 10_000), Bounds(max_bytes=1024, max_items=3, max_depth=3)
    )
    assert found["msg"] == "user %s"
    assert found["args"][0].endswith("chars]")


def test_a_formatter_leaves_the_record_as_it_is() -> None:
    given = record("%s", "x" * 10_000, extra_body="y" * 10_000)
    before = copy.copy(vars(given))
    BoundedFormatter(max_bytes=256).format(given)
    assert vars(given) == before


def test_a_filter_hands_on_a_copy_where_python_takes_one() -> None:
    given = record("%s", "x" * 10_000)
    passed = BoundedFilter(max_bytes=256).filter(given)
    if sys.version_info >= (3, 12):
        assert passed is not given
        assert len(given.getMessage()) == 10_000
        assert len(passed.getMessage()) < 400
    else:
        assert passed is True
        assert len(given.getMessage()) < 400


def test_records_of_a_class_of_the_hosts_stay_of_that_class() -> None:
    class Brace(logging.LogRecord):
        def getMessage(self) -> str:  # noqa: N802 - reason: the name that logging gave it
            return str(self.msg).format(*self.args or ())

    given = Brace("n", logging.INFO, __file__, 1, "plain {{}}", (), None)
    assert BoundedFormatter(max_bytes=256).format(given) == "plain {}"


def test_a_record_in_a_queue_does_not_keep_what_was_logged() -> None:
    waiting: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = QueueHandler(waiting)
    handler.addFilter(BoundedFilter(max_bytes=512))
    try:
        throw(ValueError("y" * 10_000))
    except ValueError:
        given = record("%s", "x" * 10_000)
        given.exc_info = sys.exc_info()
        handler.handle(given)
    queued = waiting.get_nowait()
    assert len(queued.getMessage()) < 3000
    assert queued.exc_info is None


def test_texts_that_others_made_already_are_cut() -> None:
    given = record("m", exc_text="e" * 10_000, stack_info="s" * 10_000)
    text = BoundedFormatter(max_bytes=512).format(given)
    assert len(text) < 1200


def test_a_record_that_cannot_be_read_says_so() -> None:
    given = record("m")
    del given.__dict__["args"]
    assert "could not be read: AttributeError" in BoundedFormatter().format(given)


def test_the_other_formatters_failure_is_its_own() -> None:
    class Broken(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            raise ZeroDivisionError(record.msg)

    with pytest.raises(ZeroDivisionError):
        BoundedFormatter(Broken()).format(record())


@pytest.mark.parametrize("make", [BoundedFilter, BoundedFormatter])
def test_bad_options_are_refused(make: Callable[..., object]) -> None:
    with pytest.raises(ConfigError):
        make(max_items=0)
    with pytest.raises(TypeError, match="allow"):
        make(allow=3)


def test_a_formatter_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="must be a Formatter"):
        BoundedFormatter("%(message)s")  # type: ignore[arg-type] # reason: the wrong kind
