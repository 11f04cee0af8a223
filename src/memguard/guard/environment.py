"""``MEMGUARD_*`` variables as options of a `MemoryGuard`. Pure; read when a guard is installed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from memguard.errors import ConfigError
from memguard.units import parse_bytes, parse_seconds

VARIABLES: Mapping[str, tuple[str, str]] = {
    "MEMGUARD_LIMIT": ("limit", "bytes"),
    "MEMGUARD_CHILDREN": ("children", "flag"),
    "MEMGUARD_INTERVAL": ("interval", "seconds"),
    "MEMGUARD_ELEVATED": ("elevated", "number"),
    "MEMGUARD_CRITICAL": ("critical", "number"),
    "MEMGUARD_HOLD_OFF": ("hold_off", "seconds"),
    "MEMGUARD_RELIEF": ("relief", "flag"),
    "MEMGUARD_LEAKS": ("leaks", "flag"),
    "MEMGUARD_REPORT_DIR": ("report_dir", "text"),
    "MEMGUARD_SOURCE_LINES": ("source_lines", "flag"),
    "MEMGUARD_HISTORY": ("history", "path"),
    "MEMGUARD_GC_WATCH": ("gc_watch", "flag"),
    "MEMGUARD_PUBLISH": ("publish", "path"),
    "MEMGUARD_WHEN_BLIND": ("when_blind", "text"),
    "MEMGUARD_RESTART_IN_CHILDREN": ("restart_in_children", "flag"),
}
"""Variable → option and how it is read. Flags are 1/0, true/false, yes/no, on/off."""

_OTHERS = ("MEMGUARD_TOKEN",)
"""Variables that the command line reads."""

_MOST_UNKNOWN = 20
_FLAGS = {"1": True, "true": True, "yes": True, "on": True}
_FLAGS |= {"0": False, "false": False, "no": False, "off": False}


def options_from(environment: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the options that ``MEMGUARD_*`` variables ask for; empty ones ask for nothing.

    Raises:
        ConfigError: A value cannot be read; the message names the variable.
    """
    options: dict[str, Any] = {}
    for variable, (option, kind) in VARIABLES.items():
        text = environment.get(variable, "").strip()
        if not text:
            continue
        flag = _FLAGS.get(text.lower())
        if kind == "flag" or (kind == "path" and flag is not None):
            if flag is None:
                raise ConfigError(f"{variable} must be 1 or 0, true or false (got {text[:60]!r})")
            options[option] = flag
        elif kind == "bytes" and text != "auto":
            options[option] = int(text) if text.isdecimal() else text
            parse_bytes(options[option], name=variable)
        elif kind == "seconds":
            parse_seconds(text, name=variable)
            options[option] = text
        elif kind == "number":
            try:
                options[option] = float(text)
            except ValueError:
                message = f"{variable} must be a number (got {text[:60]!r})"
                raise ConfigError(message) from None
        else:
            options[option] = text
    return options


def blamed(error: ConfigError, environment: Mapping[str, str], given: Collection[str]) -> str:
    """
    Return what *error*, of a guard that was built from variables too, says; with their names.

    Args:
        error: It names an option, or a value.
        environment: ``os.environ``.
        given: Options that were not taken from there.
    """
    message = str(error)
    used = {
        variable: text
        for variable, (option, _) in VARIABLES.items()
        if option not in given and (text := environment.get(variable, "").strip())
    }
    named = [
        f"{variable}={text[:60]}"
        for variable, text in used.items()
        if VARIABLES[variable][0] in message or text in message
    ]
    return f"{message} (set by {', '.join(named)})" if named else message


def unknown(environment: Mapping[str, str]) -> list[tuple[str, str | None]]:
    """Return the variables that look like ours and are not, each with the nearest of ours."""
    known = (*VARIABLES, *_OTHERS)
    strange = [name for name in environment if name.startswith("MEMGUARD_") and name not in known][
        :_MOST_UNKNOWN
    ]
    if not strange:
        return []
    import difflib  # noqa: PLC0415 - reason: needed only where there is a mistake

    return [(name, next(iter(difflib.get_close_matches(name, known, 1)), None)) for name in strange]
