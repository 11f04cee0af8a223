"""Everything that the documents show is run, and everything that they point to is there."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import memguard
from tests.log_events import documented, events, source
from tests.public_api import public_modules

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))

FENCE = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n+)?^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
IMPORT = re.compile(r"^ *from (memguard(?:\.\w+)*) import ([\w, ]+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)(?P<target>[^)#\s]+)(?:#[^)\s]*)?\)")


@dataclass(frozen=True)
class Block:
    document: str
    line: int
    language: str
    code: str
    reason: str | None

    def program(self) -> str:
        """Return the code behind as many empty lines as stand before it in its document."""
        return "\n" * self.line + self.code


def blocks(text: str, document: str) -> list[Block]:
    return [
        Block(
            document=document,
            line=text.count("\n", 0, found.start("code")),
            language=found["language"],
            code=found["code"],
            reason=found["reason"],
        )
        for found in FENCE.finditer(text)
    ]


def shown(document: Path) -> str:
    return document.relative_to(ROOT).as_posix()


def python_blocks(document: Path) -> list[Block]:
    found = blocks(document.read_text("utf-8"), shown(document))
    return [block for block in found if block.language in ("python", "py", "pycon")]


# The blocks of one document are one program: the later ones use what the earlier ones made.
RUN = """
import doctest, sys
namespace = {"__name__": "__main__"}
for source in sys.argv[2:]:
    if ">>> " in source:
        test = doctest.DocTestParser().get_doctest(source, namespace, sys.argv[1], sys.argv[1], 0)
        if doctest.DocTestRunner(verbose=False).run(test, clear_globs=False).failed:
            sys.exit(1)
    else:
        exec(compile(source, sys.argv[1], "exec"), namespace)
"""


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_the_python_of_a_document_runs(document: Path, tmp_path: Path) -> None:
    programs = [block.program() for block in python_blocks(document) if block.reason is None]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, shown(document), *programs],
        cwd=tmp_path,  # what a reader's program writes, it writes there
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_the_files_that_a_document_points_to_are_there(document: Path) -> None:
    text = document.read_text("utf-8")
    targets = [found["target"] for found in LINK.finditer(text)]
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing, f"{shown(document)} points to {missing}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_no_document_installs_the_stranger_of_the_same_name(document: Path) -> None:
    """On the package index, the plain name belongs to an unrelated project; ours ends in -py."""
    stranger = r"\b(?:pip|uv)\b[^\n]*\b(?:install|add) +[^\n]*\bmemguard(?!-py)"
    assert not re.search(stranger, document.read_text("utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=shown)
def test_a_document_shows_no_private_module(document: Path) -> None:
    allowed = {"memguard", *public_modules()}
    for name, names in IMPORT.findall(document.read_text("utf-8")):
        each = {f"{name}.{one.strip()}" for one in names.split(",")}
        assert name in allowed or each <= allowed, f"{name} is private: import it from its package"


def test_every_public_module_is_there() -> None:
    for name in public_modules():
        assert importlib.util.find_spec(name) is not None


def test_every_event_is_documented_and_every_documented_event_is_logged() -> None:
    logged, listed = events(source()), documented()
    assert sorted(logged.keys() - listed.keys()) == [], "not in docs/logging.md"
    assert sorted(listed.keys() - logged.keys()) == [], "in docs/logging.md, and logged nowhere"


def test_the_keys_of_every_event_are_documented_and_nothing_else() -> None:
    logged, listed = events(source()), documented()
    differing = {
        name: (sorted(keys), sorted(listed[name]))
        for name, keys in logged.items()
        if name in listed and keys != listed[name]
    }
    assert not differing, f"(logged, documented): {differing}"


MODULES = [
    info.name
    for info in pkgutil.walk_packages(memguard.__path__, "memguard.")
    if not info.name.endswith("__main__")
]


# In a process of its own, where no other test has left a container or a thread behind.
RUN_DOCSTRINGS = """
import doctest, importlib, sys
failed = [name for name in sys.argv[1:] if doctest.testmod(importlib.import_module(name)).failed]
sys.exit(f"failed: {failed}" if failed else 0)
"""


def test_the_examples_in_docstrings_are_true() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN_DOCSTRINGS, *MODULES],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# The checks above, checked: on a document that is wrong they must fail.


def test_a_block_is_found_with_its_line_and_its_excuse() -> None:
    text = (
        "# Title\n\n```python\na = 1\n```\n\n<!-- not run: it serves forever -->\n"
        "```python\nserve()\n```\n\n```console\n$ make\n```\n"
    )
    first, second, third = blocks(text, "x.md")
    assert (first.line, first.code, first.reason) == (3, "a = 1\n", None)
    assert (second.code, second.reason) == ("serve()\n", "it serves forever")
    assert third.language == "console"


@pytest.mark.parametrize(
    ("programs", "code"),
    [
        (["a = 1\n", "assert a == 1\n"], 0),
        (["assert False\n"], 1),
        ([">>> 1 + 1\n2\n"], 0),
        ([">>> 1 + 1\n3\n"], 1),
        (["a = 1\n", ">>> a\n1\n"], 0),
    ],
)
def test_blocks_run_as_one_program_and_their_failure_is_seen(
    programs: list[str], code: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "x.md", *programs], capture_output=True, check=False
    )
    assert done.returncode == code


def test_at_least_one_docstring_has_an_example() -> None:
    """Else the search itself may be broken."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in found) >= 2
