from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.report.render.html.markup import LONGEST, Markup, element, escape, join
from memguard.report.render.words import printable
from tests.strategies import names


@given(names)
def test_escaped_text_reads_back_as_what_a_terminal_would_show(text: str) -> None:
    escaped = escape(text)
    assert html.unescape(escaped) == printable(text)
    assert not set(escaped) & set("<>\"'")


@given(st.lists(names, max_size=4))
def test_texts_are_escaped_once_and_markup_never_again(texts: list[str]) -> None:
    inner = element("code", *texts)
    assert join(inner) == inner == element("code", join(*texts))


def test_an_element_shows_its_attributes_in_quotes() -> None:
    assert element("p", "a<b", class_='x"y', aria_label="l", open=True, id=None, n=False) == (
        '<p class="x&quot;y" aria-label="l" open>a&lt;b</p>'
    )


def test_an_empty_element_has_no_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_a_name_of_an_attribute_is_never_data() -> None:
    with pytest.raises(ValueError, match="cannot be the name of an attribute"):
        element("p", **{"x onload=alert(1)": "y"})


def test_an_absurd_text_keeps_its_two_ends() -> None:
    shown = escape("a" * 10_000 + "z" * 10_000)
    assert len(shown) == LONGEST + 3
    assert shown.startswith("aaa")
    assert shown.endswith("zzz")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "1"), (0.5, "0.5"), (1 / 3, "0.333333"), (-0.0, "-0"), (12345678, "12345678")],
)
def test_numbers_are_written_without_an_exponent(value: float, shown: str) -> None:
    assert element("p", x=value) == f'<p x="{shown}"></p>'


def test_markup_is_text() -> None:
    assert Markup("<b>") + "" == "<b>"
