"""`bounded_event` among structlog's own processors."""

from __future__ import annotations

import io
import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from memguard.errors import ConfigError
from memguard.integrations.logging.structlog import CUT, bounded_event
from tests.hostile_values import Hostile, throw

MiB = 1024**2


@pytest.fixture
def console() -> Iterator[Callable[..., tuple[Any, io.StringIO]]]:
    """Return a function that configures structlog and gives a logger and what it wrote."""

    def configure(*processors: Any) -> tuple[Any, io.StringIO]:
        written = io.StringIO()
        structlog.configure(
            processors=list(processors), logger_factory=structlog.PrintLoggerFactory(written)
        )
        return structlog.get_logger(), written

    yield configure
    structlog.reset_defaults()


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_small_event_passes_as_it_is(console: Callable[..., Any]) -> None:
    logger, written = console(bounded_event(), structlog.processors.JSONRenderer())
    logger.bind(user=3).info("order.placed", items=["a", "b"], total=1.5)
    assert lines(written) == [
        {"user": 3, "items": ["a", "b"], "total": 1.5, "event": "order.placed"}
    ]


def test_a_giant_event_is_cut_before_it_is_rendered(console: Callable[..., Any]) -> None:
    """The same line without the processor needs hundreds of MiB for an instant."""
    logger, written = console(
        structlog.stdlib.add_log_level, bounded_event(), structlog.processors.JSONRenderer()
    )
    response = {"rows": ["x" * MiB] * 200, "ok": True, "raw": b"\0" * (20 * MiB)}
    response["self"] = response
    logger.info("warm up")
    tracemalloc.start()
    try:
        logger.warning("upstream.answered", response=response, stranger=Hostile())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    line = lines(written)[-1]
    assert peak < 512 * 1024
    assert (line["event"], line["level"]) == ("upstream.answered", "warning")
    assert line[CUT] >= 3
    assert len(written.getvalue()) < 40_000
    assert response["ok"] is True
    assert len(response["rows"]) == 200  # type: ignore[arg-type] # reason: a list


def test_an_exception_becomes_bounded_text(console: Callable[..., Any]) -> None:
    logger, written = console(
        structlog.dev.set_exc_info,
        bounded_event(max_bytes=2048),
        structlog.processors.dict_tracebacks,
        structlog.processors.JSONRenderer(),
    )
    payload = ["y" * MiB] * 50
    try:
        throw(ValueError(payload))
    except ValueError as error:
        logger.exception("failed")
        logger.critical("failed", exc_info=error)
        logger.critical("failed", exc_info=(type(error), error, error.__traceback__))
        logger.critical("failed", exc_info=1)
    found = lines(written)
    assert len(found) == 4
    for line in found:
        assert line["exception"].startswith("Traceback (most recent call last):")
        assert len(line["exception"]) < 4096
        assert "exc_info" not in line


def test_no_exception_is_no_exception(console: Callable[..., Any]) -> None:
    logger, written = console(bounded_event(), structlog.processors.JSONRenderer())
    logger.info("fine", exc_info=None)
    logger.info("fine", exc_info=False)
    logger.info("fine", exc_info=True)  # noqa: LOG014 - reason: that there is none is the point
    logger.info("fine", exc_info=(None, None, None))
    assert lines(written) == [{"event": "fine"}] * 4


def test_arguments_still_fit_their_conversions(console: Callable[..., Any]) -> None:
    logger, written = console(
        bounded_event(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.JSONRenderer(),
    )

    def log(event: str, *arguments: Any) -> None:
        logger.info(event, positional_args=arguments)

    log("%d of %s", 3, "x" * 100_000)
    log("%d", 1 << 100_000)
    log("%(name)s", {"name": "n"})
    events = [line["event"] for line in lines(written)]
    assert events[0].startswith("3 of xxx")
    assert events[1] == "%d ('<int of 100001 bits>',)"
    assert events[2] == "n"


def test_it_works_below_the_formatter_of_the_standard_library() -> None:
    handler = logging.StreamHandler(written := io.StringIO())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                bounded_event(max_bytes=1024),
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ]
        )
    )
    logger = logging.Logger("own")  # noqa: LOG001 - reason: pytest would listen
    logger.addHandler(handler)
    logger.warning("x" * 100_000)
    (line,) = lines(written)
    assert line["event"].endswith("chars]")
    assert set(line) == {"event", CUT}


def test_what_was_rendered_already_is_cut_late_but_cut() -> None:
    processor = bounded_event(max_bytes=256)
    assert len(processor(None, "info", "x" * 1000)) < 300
    assert len(processor(None, "info", b"x" * 1000)) < 300
    pair = (("a",), {"b": 1})
    assert processor(None, "info", pair) is pair


def test_whatever_comes_it_does_not_raise() -> None:
    class Broken(dict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise ZeroDivisionError

        def keys(self) -> Any:
            raise ZeroDivisionError

    processor = bounded_event()
    found = processor(None, "info", Broken(event="x", a=Hostile()))
    assert found["event"]
    found = processor(None, "info", {"event": Hostile(), 3: 4, (5,): 6, "exc_info": Hostile()})
    assert found["3"] == 4
    assert "Hostile at 0x" in found["event"]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_bytes"):
        bounded_event(max_bytes="1GiB")
