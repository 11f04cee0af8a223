"""The rooms in ``docs/architecture.md``: drawn from the packages and the docstrings in them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "memguard"
DOCUMENT = ROOT / "docs" / "architecture.md"
RENEW = "python -m tests.rooms"
BEGIN = f"<!-- drawn by `{RENEW}`, checked by the tests -->\n"
END = "<!-- end of the drawing -->\n"


def headline(file: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
    return text.partition("\n")[0].rstrip(".")


def packages() -> list[Path]:
    """Return every folder that is a package, each before what is in it."""
    return sorted(file.parent for file in SOURCE.rglob("__init__.py"))


def drawing() -> str:
    """Return the rooms as Markdown: each package, and a line for each module in it."""
    parts = []
    for package in packages():
        name = package.relative_to(SOURCE).as_posix()
        title = "The front door and the leaves" if name == "." else f"`{name}/`"
        level = "###" if name.count("/") == 0 else "####"
        rows = [
            f"- `{file.stem}`: {headline(file)}"
            for file in sorted(package.glob("*.py"))
            if file.stem != "__init__"
        ]
        lines = [f"{level} {title}", "", f"{headline(package / '__init__.py')}.", ""]
        parts.append("\n".join([*lines, *rows, *([""] if rows else [])]))
    return "\n".join(parts)


def document(text: str) -> str:
    """Return *text* of the document with the drawing as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{drawing()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(DOCUMENT.read_text("utf-8")), "utf-8")
    sys.stdout.write(f"wrote {DOCUMENT.relative_to(ROOT)}\n")
