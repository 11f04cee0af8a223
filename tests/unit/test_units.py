from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError
from memguard.units import (
    GiB,
    KiB,
    MiB,
    format_bytes,
    format_rate,
    format_seconds,
    parse_bytes,
    parse_seconds,
)


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("64MiB", 64 * MiB),
        (" 64 mib ", 64 * MiB),
        ("64M", 64 * MiB),
        ("1.5GB", 1_500_000_000),
        (".5k", 512),
        ("2.", 2),
        ("512k", 512 * KiB),
        ("3GiB", 3 * GiB),
        ("1t", 1024 * GiB),
        ("9007199254740993", 9007199254740993),  # no detour through a float
    ],
)
def test_a_size_is_read_as_people_write_it(given_text: int | str, expected: int) -> None:
    assert parse_bytes(given_text) == expected


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
        ("30", 30.0),
        ("250ms", 0.25),
        ("2min", 120.0),
        ("10m", 600.0),
        ("1.5 h", 5400.0),
        ("1d", 86400.0),
    ],
)
def test_a_duration_is_read_as_people_write_it(given_text: float | str, expected: float) -> None:
    assert parse_seconds(given_text) == expected


@pytest.mark.parametrize("wrong", [True, None, 1.5, b"64MiB", [1]])
def test_a_size_of_a_wrong_kind_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"limit must be .* \(got "):
        parse_bytes(wrong, name="limit")  # type: ignore[arg-type] # reason: wrong on purpose


@pytest.mark.parametrize("wrong", [False, None, b"1s", (1,)])
def test_a_duration_of_a_wrong_kind_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"interval must be .* \(got "):
        parse_seconds(wrong, name="interval")  # type: ignore[arg-type] # reason: wrong on purpose


@pytest.mark.parametrize(
    "wrong",
    [
        -1,
        "-1",
        "",
        ".",
        "MiB",
        "64 MiBs",
        "1e3",
        "12 34",
        "\u0663MiB",  # a digit, but not one of ours
        2**63,
        "99999999999999999999t",
        pytest.param("9" * 5000, id="a long text"),
        pytest.param(10**5000, id="a long int"),
    ],
)
def test_a_size_out_of_range_is_refused_with_the_range(wrong: int | str) -> None:
    with pytest.raises(ConfigError, match=r"^limit must be .*\(got .{1,80}\)$"):
        parse_bytes(wrong, name="limit")


@pytest.mark.parametrize(
    "wrong",
    [
        -0.1,
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        "soon",
        "1 fortnight",
        "-5s",
        "99999999999999999999d",
    ],
)
def test_a_duration_out_of_range_is_refused_with_the_range(wrong: float | str) -> None:
    with pytest.raises(ConfigError, match=r"^interval must be .*\(got .{1,80}\)$"):
        parse_seconds(wrong, name="interval")


@given(st.text(), st.sampled_from([parse_bytes, parse_seconds]))
def test_any_text_is_either_read_or_refused(text: str, parse: Callable[[str], float]) -> None:
    with suppress(ConfigError):
        assert parse(text) >= 0


@given(st.integers(0, 2**63 - 1))
def test_a_whole_number_of_bytes_is_itself_however_written(count: int) -> None:
    assert parse_bytes(count) == parse_bytes(str(count)) == parse_bytes(f"{count}B") == count


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (-512, "-512 B"),
        (1024, "1.0 KiB"),
        (1023 * KiB + 1000, "1.0 MiB"),  # never "1024.0 KiB"
        (50_541_363, "48.2 MiB"),
        (-3 * GiB, "-3.0 GiB"),
        (5000 * 1024**4, "4.9 PiB"),
        (1e300, "over 1024 EiB"),
        (-(2**70), "-over 1024 EiB"),
        (-0.2, "0 B"),
        (math.nan, "unknown"),
        (math.inf, "unknown"),
    ],
)
def test_bytes_are_printed_as_people_read_them(count: float, expected: str) -> None:
    assert format_bytes(count) == expected


def test_signed_bytes_show_growth_and_leave_zero_alone() -> None:
    assert format_bytes(512, signed=True) == "+512 B"
    assert format_bytes(-512, signed=True) == "-512 B"
    assert format_bytes(0, signed=True) == "0 B"


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 ms"),
        (0.35, "350 ms"),
        (0.9996, "1.0 s"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (90, "1 min 30 s"),
        (3599.7, "1 h"),
        (7_500, "2 h 5 min"),
        (86_399, "1 d"),
        (86_400 * 3 + 7_200, "3 d 2 h"),
        (-90, "-1 min 30 s"),
        (1e300, "over 100 years"),
        (math.inf, "never"),
        (math.nan, "unknown"),
    ],
)
def test_durations_are_printed_as_people_read_them(seconds: float, expected: str) -> None:
    assert format_seconds(seconds) == expected


@given(st.integers(0, 2**48))
def test_a_printed_size_reads_back_within_its_own_rounding(count: int) -> None:
    text = format_bytes(count)
    read = parse_bytes(text)
    unit = parse_bytes("1" + text.split()[1])
    assert abs(read - count) <= Fraction(unit, 20) + 1


@given(st.floats(0, 1e9))
def test_a_printed_duration_is_within_two_percent(seconds: float) -> None:
    parts = format_seconds(seconds).split()
    read = sum(parse_seconds("".join(parts[n : n + 2])) for n in range(0, len(parts), 2))
    assert read == pytest.approx(seconds, rel=0.05, abs=0.0006)


def test_a_slow_rate_is_told_by_the_hour() -> None:
    assert format_rate(1.9 * MiB) == "1.9 MiB/min"
    assert format_rate(2 * KiB) == "120.0 KiB/h"
    assert format_rate(-1 * MiB) == "-1.0 MiB/min"
