"""
What memguard promises to its callers, as text: names, signatures, summaries.

``python -m tests.public_api`` renews ``docs/api.md`` and ``tests/data/public_api.txt`` after a
change of the public API; the difference then shows the change to whoever reviews it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import memguard

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "api.md"
SNAPSHOT = ROOT / "tests" / "data" / "public_api.txt"
RENEW = "python -m tests.public_api"

INTRODUCTION = f"""# The public names

What `import memguard` offers, and the [packages below](#packages-of-their-own). Everything else is
private and may change in any release. `import memguard` is quick: each name is imported when it is
first used. The docstrings tell options with their units, errors, cost and thread-safety:
`python -m pydoc memguard.<name>`.

This page is made by `{RENEW}` and checked by the tests.

"""
# Imported by who uses them: they need an extra, or load more than `import memguard` should.
ROOMS = {
    "memguard.report.render": "reports",
    "memguard.report.compare": "reports",
    "memguard.report.sinks": "reports",
    "memguard.report.alerting": "alerts",
    "memguard.report.health": "health",
    "memguard.report.metrics.prometheus": "prometheus",
    "memguard.report.metrics.opentelemetry": "opentelemetry",
    "memguard.relief": "relief",
    "memguard.relief.advice": "relief",
    "memguard.integrations.web": "web",
    "memguard.integrations.workers": "workers",
    "memguard.integrations.logging": "logging",
}
"""Packages, each with the page of ``docs/`` that says which of its names are public."""
# Plain values have no docstring to take a summary from.
VALUES = {"__version__": "The version, such as `0.1.0`."}


def document() -> str:
    """Return the text of ``docs/api.md``."""
    rows = "".join(
        f"| `{name}` | {kind_of(getattr(memguard, name))} | {summary_of(name)} |\n"
        for name in memguard.__all__
    )
    packages = "".join(
        f"| `{room}` | {', '.join(f'`{name}`' for name in public_names(room))} "
        f"| [{page}]({page}.md) |\n"
        for room, page in ROOMS.items()
    )
    return (
        f"{INTRODUCTION}| Name | Kind | What it is |\n|---|---|---|\n{rows}"
        "\n## Packages of their own\n\n"
        "What they offer, and the page beside them shows, is public, too.\n\n"
        f"| Package | Names | Page |\n|---|---|---|\n{packages}"
    )


def public_names(room: str) -> list[str]:
    """Return what the package *room* offers and the code of its page shows; some are modules."""
    text = (ROOT / "docs" / f"{ROOMS[room]}.md").read_text("utf-8")
    code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    offered: list[str] = importlib.import_module(room).__all__
    return [
        name
        for name in offered
        if re.search(rf"\b{name}\b", code)
        if getattr(memguard, name, None) is not getattr(importlib.import_module(room), name)
    ]


def public_modules() -> set[str]:
    """Return the packages and modules whose documented names are public."""
    each = {f"{room}.{name}" for room in ROOMS for name in public_names(room)}
    return {*ROOMS, *(name for name in each if importlib.util.find_spec(name) is not None)}


def snapshot() -> str:
    """Return the signature of every public name and of its public members, one a line."""
    lines: list[str] = []
    for name in memguard.__all__:
        thing = getattr(memguard, name)
        if not inspect.isclass(thing):
            lines.append(f"{name}{signature_of(thing)}" if callable(thing) else name)
            continue
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        lines.append(f"class {name}({bases}){signature_of(thing)}")
        lines += [f"    {line}" for line in members_of(thing)]
    return "\n".join(lines) + "\n"


def kind_of(thing: Any) -> str:
    """Return the word for *thing* in the table."""
    if inspect.isclass(thing):
        if issubclass(thing, BaseException):
            return "error"
        return "data" if dataclasses.is_dataclass(thing) else "class"
    return "function" if callable(thing) else "value"


def summary_of(name: str) -> str:
    """Return the first sentence that *name*'s own documentation says."""
    documentation = VALUES.get(name) or own_documentation(getattr(memguard, name)) or ""
    first = " ".join(documentation.split("\n\n")[0].split())
    return re.sub(r"``?([^`]+)``?", r"`\1`", first).replace("|", "\\|")


def own_documentation(thing: Any) -> str | None:
    """Return what was written for *thing*: nothing inherited, nothing that dataclasses made up."""
    written = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    if written is None or (inspect.isclass(thing) and written.startswith(f"{thing.__name__}(")):
        return None
    return inspect.cleandoc(str(written))


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield what *kind* and its parents in memguard define for callers, sorted by name."""
    fields = {field.name for field in dataclasses.fields(kind)} if _is_data(kind) else set()
    found: dict[str, Any] = {}
    for parent in reversed(kind.__mro__):
        if parent.__module__.partition(".")[0] == "memguard":
            found.update(vars(parent))
    for name, member in sorted(found.items()):
        if not name.startswith("_") and name not in fields and not _is_slot(member):
            yield name, member


def members_of(kind: type) -> Iterator[str]:
    """Yield one line for each member that a caller may use."""
    for name, member in public_members(kind):
        if isinstance(member, property):
            yield f"property {name}{_returned(inspect.signature(cast('Any', member.fget)))}"
        elif isinstance(member, classmethod | staticmethod):
            yield f"{type(member).__name__} {name}{signature_of(member.__func__)}"
        elif callable(member):
            yield f"{name}{signature_of(member)}"
        else:
            yield name


def signature_of(thing: Any) -> str:
    """Return parameters with kinds, annotations and defaults, alike on every Python."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    shown: list[str] = []
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            keyword_only = True
        elif parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            keyword_only = True
            shown.append("*")
        shown.append(_parameter(parameter))
    result = "" if inspect.isclass(thing) else _returned(signature)
    return f"({', '.join(shown)}){result}"


def _returned(signature: inspect.Signature) -> str:
    if signature.return_annotation is signature.empty:
        return ""
    return f" -> {_annotation(signature.return_annotation)}"


def _annotation(written: Any) -> str:
    return written if isinstance(written, str) else str(inspect.formatannotation(written))


def _parameter(parameter: inspect.Parameter) -> str:
    text = parameter.name
    if parameter.kind is parameter.VAR_POSITIONAL:
        text = f"*{text}"
    elif parameter.kind is parameter.VAR_KEYWORD:
        text = f"**{text}"
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += " = " + re.sub(r" at 0x[0-9a-fA-F]+", "", repr(parameter.default))
    return text


def _is_data(kind: type) -> bool:
    return dataclasses.is_dataclass(kind)


def _is_slot(member: Any) -> bool:
    return inspect.ismemberdescriptor(member) or inspect.isgetsetdescriptor(member)


def renew() -> None:
    """Write both files anew."""
    DOCUMENT.write_text(document(), "utf-8")
    SNAPSHOT.write_text(snapshot(), "utf-8")


if __name__ == "__main__":
    renew()
    sys.stdout.write(f"wrote {DOCUMENT.relative_to(ROOT)} and {SNAPSHOT.relative_to(ROOT)}\n")
