"""Routing and options of health, without a server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard import ConfigError, MemoryGuard
from memguard.report.health.application import ROUTES, HealthApplication
from memguard.report.health.asgi import HealthAsgi
from memguard.report.health.http import Request, Response, Wait
from memguard.report.health.wsgi import HealthWsgi

TOKEN = "a-token-of-a-test-0123456789"  # noqa: S105 - reason: a token of a test
texts = st.text(max_size=60)
headers = st.dictionaries(
    st.sampled_from(
        (
            *("authorization", "x-memguard-token", "origin", "host", "sec-fetch-site"),
            *("accept", "content-type"),
        )
    ),
    texts | st.just(TOKEN) | st.just("application/x-www-form-urlencoded"),
)
requests = st.builds(
    Request,
    method=st.sampled_from(["GET", "HEAD", "POST"]) | texts,
    route=st.sampled_from(["", "/", "/memguard/", *ROUTES]) | texts,
    mounted_at=texts,
    query=texts,
    headers=headers,
    body=st.none() | st.binary(max_size=200) | st.just(f"token={TOKEN}&target=1".encode()),
)


def site(guard: Any = None, **options: Any) -> HealthApplication[Any]:
    given = guard if guard is not None else MemoryGuard(leaks=False)
    return HealthApplication(given, **{"relieve_seconds": 1.0, **options})


SITES = (site(), site(relieve_token=TOKEN), site(read_token=TOKEN, relieve_token=TOKEN))


@settings(deadline=None)
@given(st.sampled_from(SITES), requests)
def test_whatever_is_asked_is_answered_in_order(
    answering: HealthApplication[Any], request: Request
) -> None:
    found = answering._answer(request)
    if isinstance(found, Wait):
        return
    assert isinstance(found, Response)
    assert found.status in (200, 308, 400, 401, 403, 404, 405, 409, 413, 415)
    names = [name.lower() for name, _ in found.headers]
    assert len(set(names)) == len(names)
    for _, value in found.headers:
        assert value.isascii()
        assert "\n" not in value
        assert "\r" not in value
    assert answering.statistics().errors == 0


def test_what_goes_wrong_is_counted_and_said_without_its_text() -> None:
    def broken() -> MemoryGuard:
        raise ZeroDivisionError("secret")

    answering = site(broken, relieve_token=TOKEN)
    headers = {"x-memguard-token": TOKEN}
    request = Request(method="POST", route="/memguard/relieve", headers=headers)
    found = answering._answer(request)
    assert isinstance(found, Response)
    assert found.status == 500
    assert b"secret" not in found.body
    answering._answer(Request(method="GET", route="/health/ready"))
    statistics = answering.statistics()
    assert statistics.errors == 2
    assert dict(statistics.errors_by_kind) == {
        "answer: ZeroDivisionError": 1,
        "ready: ZeroDivisionError": 1,
    }


def test_wrong_tokens_are_counted() -> None:
    answering = site(relieve_token=TOKEN)
    for _ in range(3):
        answering._answer(Request(method="POST", route="/memguard/relieve"))
    assert answering.statistics().wrong_tokens == 3


@pytest.mark.parametrize("application", [HealthAsgi, HealthWsgi])
@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"guard": 1}, TypeError, "guard must be a MemoryGuard"),
        ({"guard": MemoryGuard}, TypeError, "got MemoryGuard"),
        ({"app": 1}, TypeError, "app must be"),
        ({"relieve_token": "short"}, ConfigError, "relieve_token must be 16 to 1024 characters"),
        ({"read_token": b"x" * 20}, TypeError, "read_token must be a string"),
        ({"critical_is_unready": 1}, TypeError, "critical_is_unready must be True or False"),
        ({"refresh": 0.1}, ConfigError, "refresh must be from 0.5 to 3600 seconds"),
        ({"refresh": "soon"}, ConfigError, "refresh must be"),
        ({"relieve_seconds": "1h"}, ConfigError, "relieve_seconds must be from 0.1 to 300"),
        ({"relieve_seconds": None}, TypeError, "relieve_seconds must be"),
    ],
)
def test_options_that_cannot_work_are_refused(
    application: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        application(**{"guard": MemoryGuard(leaks=False), **options})


def test_statistics_are_those_of_the_application() -> None:
    for application in (HealthAsgi, HealthWsgi):
        assert application(MemoryGuard(leaks=False)).statistics().unavailable == 0


def test_the_data_of_health_needs_no_server(tmp_path: Path) -> None:
    """The page and its adapters are loaded by those who use them."""
    heavy = ["asyncio", "http", "memguard.report.health.page.document", "urllib.request"]
    program = "import sys, memguard.report.health.health_report; "
    program += f"print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n"
