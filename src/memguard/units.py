"""Units to numbers and back: "64MiB" and bytes, "10m" and seconds. The only parser of them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from memguard.errors import ConfigError

KiB = 1024
MiB = 1024**2
GiB = 1024**3

_BYTES = {
    "": 1,
    "b": 1,
    "k": KiB,
    "kib": KiB,
    "kb": 1000,
    "m": MiB,
    "mib": MiB,
    "mb": 1000**2,
    "g": GiB,
    "gib": GiB,
    "gb": 1000**3,
    "t": 1024**4,
    "tib": 1024**4,
    "tb": 1000**4,
}
_MILLISECONDS = {
    "": 1000,
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "min": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
}
# Lengths are capped so that no text, however long, makes a number that is slow to compute with.
_QUANTITY = r"\s*(?P<whole>[0-9]{0,20})(?:\.(?P<part>[0-9]{0,20}))?\s*(?P<unit>[a-zA-Z]{0,3})\s*"

_MOST_BYTES = 2**63 - 1  # what a signed 64-bit size of the kernel can say
_MOST_SECONDS = 2**53  # whole seconds stay exact in a float up to here


def parse_bytes(value: int | str, *, name: str = "size") -> int:
    """
    Return *value* as a whole number of bytes.

    Args:
        value: A number of bytes, or a string such as ``"64MiB"``, ``"1.5 GB"`` or ``"512k"``.
            ``k m g t`` alone are binary, as in ``free -h`` and Kubernetes' ``Ki``.
        name: The option's name, for the error message.

    Raises:
        TypeError: *value* is neither an int nor a string.
        ConfigError: It is negative, above 2**63 - 1, or no size that can be read.
    """
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(
            f"{name} must be a number of bytes or a string like '64MiB' "
            f"(got {type(value).__name__})"
        )
    if isinstance(value, str):
        count, parts = _parse(value, _BYTES, name, "a size >= 0 like '64MiB', '1.5GB' or '4096'")
        result, rest = divmod(count, parts)
        result += rest * 2 > parts or (rest * 2 == parts and result % 2)  # as `round`, but exact
    else:
        result = value
    if not 0 <= result <= _MOST_BYTES:
        raise ConfigError(f"{name} must be 0 to 2**63 - 1 bytes (got {_shortened(value)})")
    return int(result)


def parse_seconds(value: float | str, *, name: str = "duration") -> float:
    """
    Return *value* as seconds.

    Args:
        value: A finite number of seconds, or a string such as ``"250ms"``, ``"10m"`` or ``"2h"``.
        name: The option's name, for the error message.

    Raises:
        TypeError: *value* is neither a number nor a string.
        ConfigError: It is negative, not finite, above 2**53 seconds, or no duration that can be
            read.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(
            f"{name} must be a number of seconds or a string like '10m' "
            f"(got {type(value).__name__})"
        )
    seconds: float = math.inf
    if isinstance(value, str):
        allowed = "a duration >= 0 like '250ms', '30s', '10m' or '2h'"
        count, parts = _parse(value, _MILLISECONDS, name, allowed)
        if count <= _MOST_SECONDS * 1000 * parts:
            seconds = count / (1000 * parts)  # rounded once: both are whole
    else:
        seconds = value
    if not 0 <= seconds <= _MOST_SECONDS:  # also refuses NaN, which compares as False
        raise ConfigError(
            f"{name} must be a finite number of seconds, 0 to 2**53 (got {_shortened(value)})"
        )
    return float(seconds)


def _parse(text: str, units: Mapping[str, int], name: str, allowed: str) -> tuple[int, int]:
    """Return *text* in the smallest of *units* as an exact fraction: numerator, denominator."""
    # Not a `Fraction`: its module costs 2 ms, and every container reads its options with this one.
    match = re.fullmatch(_QUANTITY, text)
    if match is not None:
        whole, part = match["whole"], match["part"] or ""
        size = units.get(match["unit"].lower())
        if size is not None and (whole or part):
            return int(whole + part) * size, 10 ** len(part)
    raise ConfigError(f"{name} must be {allowed} (got {_shortened(text)})")


def _shortened(value: float | str) -> str:
    """Return what was given, for a message: no longer than a line, however long it is."""
    if isinstance(value, int) and abs(value) > _MOST_BYTES:
        return f"an int of {value.bit_length()} bits"  # repr refuses ints of more than 4300 digits
    text = repr(value if not isinstance(value, str) else value[:60])
    return text if not isinstance(value, str) or len(value) <= 60 else text + "..."


def format_bytes(count: float, *, signed: bool = False) -> str:
    """
    Return *count* bytes as people read them: ``"48.2 MiB"``, ``"+512 B"`` when *signed*.

    >>> format_bytes(50_541_363)
    '48.2 MiB'
    """
    if not math.isfinite(count):
        return "unknown"
    size = abs(count)
    text = f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        # Compared as it would be printed: 1023.96 KiB would else read "1024.0 KiB".
        if float(text.split(maxsplit=1)[0]) < 1024:
            break
        size /= 1024
        text = f"{size:.1f} {unit}"
    if size >= 1024:
        text = "over 1024 EiB"
    zero = text == "0 B"
    sign = "" if zero else "-" if count < 0 else "+" if signed else ""
    return sign + text


def format_rate(bytes_per_minute: float) -> str:
    """Return a rate a minute, or an hour if it is slow: ``"1.9 MiB/min"``."""
    if abs(bytes_per_minute) >= 100 * KiB:
        return f"{format_bytes(bytes_per_minute)}/min"
    return f"{format_bytes(bytes_per_minute * 60)}/h"


def format_seconds(seconds: float) -> str:
    """
    Return a duration as people read it, two units at most: ``"350 ms"``, ``"2 h 5 min"``.

    Infinity reads ``"never"``: a limit that is not being approached.

    >>> format_seconds(7_500)
    '2 h 5 min'
    """
    if not math.isfinite(seconds):
        return "unknown" if math.isnan(seconds) else "never"
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if seconds > 36525 * 86400:
        return f"{sign}over 100 years"
    # Each step is chosen as it would be printed: 59.96 s would else read "60.0 s".
    if round(seconds * 1000) < 1000:
        text = f"{seconds * 1000:.0f} ms"
    elif round(seconds, 1) < 60:
        text = f"{seconds:.1f} s"
    elif round(seconds) < 3600:
        text = _two_units(round(seconds), 60, "min", 1, "s")
    elif round(seconds / 60) * 60 < 86400:
        text = _two_units(round(seconds / 60) * 60, 3600, "h", 60, "min")
    else:
        text = _two_units(round(seconds / 3600) * 3600, 86400, "d", 3600, "h")
    return sign + text


def _two_units(whole: int, size: int, unit: str, small_size: int, small: str) -> str:
    count, rest = divmod(whole, size)
    minor = rest // small_size
    return f"{count} {unit} {minor} {small}" if minor else f"{count} {unit}"
