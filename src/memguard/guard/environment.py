"""``MEMGUARD_*`` variables as options of a `MemoryGuard`. Pure; read when a guard is installed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memguard.errors import ConfigError

VARIABLES: Mapping[str, tuple[str, str]] = {
    "MEMGUARD_LIMIT": ("limit", "text"),
    "MEMGUARD_INTERVAL": ("interval", "text"),
    "MEMGUARD_ELEVATED": ("elevated", "number"),
    "MEMGUARD_CRITICAL": ("critical", "number"),
    "MEMGUARD_HOLD_OFF": ("hold_off", "text"),
    "MEMGUARD_RELIEF": ("relief", "flag"),
    "MEMGUARD_LEAKS": ("leaks", "flag"),
    "MEMGUARD_REPORT_DIR": ("report_dir", "text"),
    "MEMGUARD_HISTORY": ("history", "path"),
    "MEMGUARD_GC_WATCH": ("gc_watch", "flag"),
    "MEMGUARD_PUBLISH": ("publish", "path"),
}
"""Variable → option and how it is read. Flags are 1/0, true/false, yes/no, on/off."""

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
        elif kind == "number":
            try:
                options[option] = float(text)
            except ValueError:
                message = f"{variable} must be a number (got {text[:60]!r})"
                raise ConfigError(message) from None
        else:
            options[option] = int(text) if option == "limit" and text.isdecimal() else text
    return options
