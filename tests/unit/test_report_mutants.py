"""Reports from strangers: each is refused in words, or read and shown, in time that is linear."""

from __future__ import annotations

import json
import time

import pytest

from memguard.errors import ReportFormatError
from memguard.report.compare.comparison import compare
from memguard.report.compare.rendering import render_html as compared_html
from memguard.report.compare.rendering import render_text as compared_text
from memguard.report.render.html.page import render_html
from memguard.report.render.json import parse_json, render_json
from memguard.report.render.text import render_text
from tests.report_mutants import mutants
from tests.specimens import leak_report


def test_what_is_read_of_some_hundred_mutants_is_shown() -> None:
    """By hand: 20,000 of them, with other seeds."""
    original, read = leak_report(), 0
    for text in mutants(400, seed=1):
        try:
            report = parse_json(text)
        except ReportFormatError:
            continue
        read += 1
        render_text(report)
        render_html(report)
        parse_json(render_json(report))
        comparison = compare(original, report)
        compared_text(comparison)
        compared_html(comparison)
    assert read > 50  # or this test shows little


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**64])
def test_a_number_that_cannot_be_shown_is_refused_by_its_name(number: int) -> None:
    data = leak_report().to_dict()
    data["trend"]["current_bytes"] = number
    with pytest.raises(ReportFormatError, match=r"report\.trend\.current_bytes must be"):
        parse_json(json.dumps(data))


def test_an_exponent_beyond_doubles_is_refused() -> None:
    text = render_json(leak_report(uptime_seconds=12.5)).replace("12.5", "1e999")
    with pytest.raises(ReportFormatError, match="uptime_seconds must be a finite number"):
        parse_json(text)


def test_reading_a_long_report_costs_little_more_than_its_json() -> None:
    """As processor time of this thread, the best of three: other processes do not count."""
    data = leak_report().to_dict()
    data["trend"]["curve"] = [{"seconds": float(n), "bytes": n} for n in range(20_000)]
    text = json.dumps(data)

    def cost(work: object) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.thread_time()
            work(text)  # type: ignore[operator]  # reason: both are functions of a text
            best = min(best, time.thread_time() - began)
        return best

    assert cost(parse_json) < 10 * cost(json.loads)


def test_a_share_that_no_double_holds_as_a_percentage_is_shown() -> None:
    text = json.dumps(leak_report(explained_ratio=0.1, garbage_ratio=1.7e308).to_dict())
    render_text(parse_json(text))
    render_html(parse_json(text))
