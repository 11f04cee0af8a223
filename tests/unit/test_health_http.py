"""Tokens and origins: who may ask, and whom a browser asks for."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.report.health.http import bearer, check_token, is_cross_site, is_one_of, password

TOKEN = "a-token-that-is-long"  # noqa: S105 - reason: a token of a test


def test_a_token_that_can_be_guessed_or_sent_by_nobody_is_refused() -> None:
    for bad in (
        "",
        "short",
        "x" * 2000,
        "with a space in it",
        "unprintable\x00token",
        "ümlaut" * 5,
    ):
        with pytest.raises(ConfigError, match=r"makes a good one"):
            check_token("relieve_token", bad)
    with pytest.raises(TypeError, match="relieve_token must be a string"):
        check_token("relieve_token", b"bytes-are-no-string")  # type: ignore[arg-type] # reason: the wrong kind is the point
    assert check_token("relieve_token", None) is None
    assert check_token("relieve_token", TOKEN) == TOKEN.encode()


def test_no_refusal_tells_the_token() -> None:
    with pytest.raises(ConfigError) as caught:
        check_token("read_token", "hidden word")
    assert "hidden" not in str(caught.value)


@given(st.text())
def test_only_the_token_is_the_token(text: str) -> None:
    assert is_one_of((text,), (TOKEN.encode(),)) is (text == TOKEN)


def test_nothing_given_or_nothing_set_fits_nothing() -> None:
    assert not is_one_of((None, ""), (TOKEN.encode(), None))
    assert not is_one_of((TOKEN,), (None,))
    assert not is_one_of((None,), (None,))
    assert is_one_of((None, "wrong", TOKEN), (None, TOKEN.encode()))


def test_a_token_comes_in_a_header() -> None:
    assert bearer({"x-memguard-token": TOKEN}) == TOKEN
    assert bearer({"authorization": f"bearer {TOKEN}"}) == TOKEN
    assert bearer({"authorization": f"Basic {TOKEN}"}) is None
    assert bearer({}) is None


def test_a_browser_sends_it_as_a_password() -> None:
    coded = base64.b64encode(f"anybody:{TOKEN}".encode()).decode()
    assert password({"authorization": f"Basic {coded}"}) == TOKEN
    assert password({"authorization": f"Bearer {coded}"}) is None


@given(st.text())
def test_whatever_stands_in_the_header_is_no_error(text: str) -> None:
    password({"authorization": f"Basic {text}"})
    bearer({"authorization": text})
    is_cross_site({"origin": text, "host": text})
    is_cross_site({"sec-fetch-site": text})


@pytest.mark.parametrize(
    ("headers", "cross"),
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": ""}, True),
        # Behind a proxy that changes Host, the browser's own word counts.
        ({"sec-fetch-site": "same-origin", "origin": "https://a.example", "host": "x:8000"}, False),
        ({"sec-fetch-site": "cross-site", "origin": "http://a", "host": "a"}, True),
        ({"origin": "http://a.example", "host": "a.example"}, False),
        ({"origin": "http://a.example", "host": "a.example:80"}, False),
        ({"origin": "https://a.example", "host": "a.example:443"}, False),
        ({"origin": "https://a.example:443", "host": "A.Example"}, False),
        ({"origin": "http://[::1]:8000", "host": "[::1]:8000"}, False),
        ({"origin": "http://[::1]", "host": "[::1]"}, False),
        ({"origin": "http://a.example:8000", "host": "a.example"}, True),
        ({"origin": "http://b.example", "host": "a.example"}, True),
        ({"origin": "http://a.example.b.example", "host": "a.example"}, True),
        ({"origin": "null", "host": "a.example"}, True),
        ({"origin": "", "host": "a.example"}, True),
        ({"origin": "file://", "host": ""}, True),
        ({"origin": "http://a.example"}, True),
    ],
)
def test_a_page_of_another_site_is_known(
    headers: dict[str, str],
    cross: bool,  # noqa: FBT001 - reason: a column of the table
) -> None:
    assert is_cross_site(headers) is cross
