"""The floors and laws of docs/architecture.md, read from the imports of the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"

# From the ground up; a module belongs to the longest prefix that names it. Importing goes down, or
# sideways within a room; the few ways between rooms of one floor are listed below.
FLOORS = (
    {
        "memguard.errors",
        "memguard.extras",
        "memguard.lazy",
        "memguard.bounded.options",
        "memguard.units",
        "memguard.log",
        "memguard.schema",
        "memguard._version",
    },
    {"memguard.lifecycle"},
    {
        "memguard.observe",
        "memguard.bounded.inventory",
        "memguard.bounded.sizing",
        "memguard.leaks.report",
    },
    {"memguard.bounded", "memguard.heap"},
    {"memguard.leaks", "memguard.relief"},
    {"memguard.leaks.detector", "memguard.leaks.delivery", "memguard.report"},
    {"memguard.guard"},
    {"memguard.integrations", "memguard.cli", "memguard.__main__", "memguard"},
)
SIDEWAYS = {
    ("memguard.leaks.detector", "memguard.report"),  # it writes what it found
    ("memguard.leaks.detector", "memguard.leaks.delivery"),
    ("memguard.leaks.delivery", "memguard.report"),  # on its behalf
}
CONTAINERS = {
    "memguard.bounded.cache",
    "memguard.bounded.pool",
    "memguard.bounded.events",
    "memguard.bounded.timers",
    "memguard.bounded.streams",
}
# Rooms at the edge: each may import an optional package, and is imported by no core room.
EDGE = (
    "memguard.integrations.",
    "memguard.report.metrics.prometheus",
    "memguard.report.metrics.opentelemetry",
    "memguard.cli.top",
)
TRACING_CALLS = {"start", "stop", "take_snapshot", "clear_traces", "reset_peak"}
MOST_LINES = 700


@dataclass(frozen=True)
class Module:
    name: str
    file: Path

    def tree(self) -> ast.Module:
        return ast.parse(self.file.read_text("utf-8"), str(self.file))

    def imports(self, *, at_run_time: bool = False) -> Iterator[str]:
        """Yield each module imported anywhere in it, also in functions and for type checkers."""
        package = self.name if self.file.stem == "__init__" else self.name.rpartition(".")[0]
        tree: ast.AST = self.tree()
        if at_run_time:
            tree = _WithoutTypeChecking().visit(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*parents, *([base] if base else [])])
                for alias in node.names:
                    full = f"{base}.{alias.name}"
                    yield full if full in NAMES else base


class _WithoutTypeChecking(ast.NodeTransformer):
    def visit_If(self, node: ast.If) -> ast.AST | None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def modules() -> list[Module]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found.append(Module(name, file))
    return found


MODULES = modules()
NAMES = {module.name for module in MODULES}
each_module = pytest.mark.parametrize("module", MODULES, ids=[module.name for module in MODULES])


def room_and_floor(name: str) -> tuple[str, int]:
    rooms = [
        (room, number)
        for number, floor in enumerate(FLOORS)
        for room in floor
        if name == room or (room != "memguard" and name.startswith(room + "."))
    ]
    assert rooms, f"{name} is on no floor; give it one in FLOORS and in docs/architecture.md"
    return max(rooms, key=lambda room: len(room[0]))


def may_import(importer: str, imported: str) -> bool:
    room, floor = room_and_floor(importer)
    other, other_floor = room_and_floor(imported)
    if other_floor == floor:
        return room == other or floor in (0, len(FLOORS) - 1) or (room, other) in SIDEWAYS
    return other_floor < floor


@each_module
def test_importing_goes_down_the_floors(module: Module) -> None:
    wrong = [
        imported
        for imported in module.imports()
        if imported.split(".")[0] == "memguard"
        and imported != module.name
        and not may_import(module.name, imported)
    ]
    assert not wrong, f"{module.name} must not import {', '.join(wrong)}: that is up or across"


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("memguard.leaks.growth.trend", "memguard.observe.readings", True),
        ("memguard.leaks.detector", "memguard.report.sinks.directory", True),
        ("memguard.report.sinks.directory", "memguard.leaks.report", True),
        ("memguard.report.sinks.directory", "memguard.leaks.detector", False),
        ("memguard.report.render.text", "memguard.units", True),
        ("memguard.leaks.growth.trend", "memguard.report.render.text", False),
        ("memguard.leaks.growth.trend", "memguard.bounded.cache.bounded_cache", True),
        ("memguard.leaks.growth.trend", "memguard.bounded.sizing", True),
        ("memguard.observe.readings", "memguard.leaks.growth.trend", False),
        ("memguard.observe.readings", "memguard", False),
        ("memguard.guard", "memguard.relief.monitor", True),
        ("memguard.relief.steps", "memguard.guard", False),
        ("memguard", "memguard.leaks.detector", True),
    ],
)
def test_the_floors_allow_what_the_house_says(
    importer: str,
    imported: str,
    allowed: bool,  # noqa: FBT001 - reason: a column of the table
) -> None:
    assert may_import(importer, imported) is allowed


@each_module
def test_containers_do_not_import_one_another(module: Module) -> None:
    own = {room for room in CONTAINERS if is_in(module.name, room)}
    others = CONTAINERS - own
    if own:
        wrong = [name for name in module.imports() if any(is_in(name, room) for room in others)]
        assert not wrong


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


@each_module
def test_a_module_fits_in_the_head(module: Module) -> None:
    lines = len(module.file.read_text("utf-8").splitlines())
    assert lines <= MOST_LINES, f"{module.name} has {lines} lines; find the room that is missing"


@each_module
def test_a_module_says_what_it_is_for(module: Module) -> None:
    assert ast.get_docstring(module.tree())


@each_module
def test_no_module_is_called_utils(module: Module) -> None:
    last = module.name.rpartition(".")[2].strip("_")
    assert last not in {"util", "utils", "common", "helpers", "misc"}


def tracing_calls(tree: ast.Module) -> set[str]:
    """Return what of tracemalloc's state the code changes or copies."""
    named = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tracemalloc"
        for alias in node.names
    }
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "tracemalloc"
    }
    return (named | used) & TRACING_CALLS


@each_module
def test_only_the_tracing_room_starts_and_stops_tracing(module: Module) -> None:
    if module.name != "memguard.leaks.evidence.tracing":
        assert not tracing_calls(module.tree())


@pytest.mark.parametrize(
    "source", ["import tracemalloc\ntracemalloc.stop()", "from tracemalloc import stop"]
)
def test_a_call_to_tracing_is_seen_however_it_is_written(source: str) -> None:
    assert tracing_calls(ast.parse(source)) == {"stop"}


@each_module
def test_only_the_retention_room_knows_objgraph(module: Module) -> None:
    if module.name != "memguard.leaks.holders.paths":
        assert "objgraph" not in {name.split(".")[0] for name in module.imports()}


def declared_dependencies() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r"^dependencies = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)
    assert found
    return {re.split(r"[<>=!~; ]", line)[0] for line in ast.literal_eval(found[1])}


def test_the_core_depends_on_four_packages() -> None:
    assert declared_dependencies() == {"cachetools", "objgraph", "psutil", "structlog"}


@each_module
def test_core_rooms_import_no_undeclared_package(module: Module) -> None:
    """Only the edge may need an extra, and only where it is used."""
    allowed = declared_dependencies() | set(sys.stdlib_module_names) | {"memguard"}
    undeclared = {name.split(".")[0] for name in module.imports(at_run_time=True)} - allowed
    if not module.name.startswith(EDGE):
        assert not undeclared, f"{module.name} imports {undeclared}"


@each_module
def test_a_module_can_be_imported_alone_and_starts_nothing(module: Module) -> None:
    """In a fresh interpreter with warnings as errors: no thread, hook, signal, filter, output."""
    if module.name == "memguard.__main__":
        pytest.skip("importing it runs the command line")
    program = f"""
import contextlib, gc, logging, signal, sys, threading, tracemalloc, warnings
with contextlib.suppress(ImportError):
    import exceptiongroup  # comes with pytest and anyio on 3.10, and sets sys.excepthook
def state():
    return {{
        "signals": {{number: signal.getsignal(number) for number in signal.valid_signals()}},
        "warning filters": list(warnings.filters),
        "gc": (list(gc.callbacks), gc.get_threshold(), gc.isenabled()),
        "hooks": (sys.excepthook, threading.excepthook, sys.getprofile(), sys.gettrace()),
        "tracing": tracemalloc.is_tracing(),
        "threads": threading.enumerate(),
        "root handlers": list(logging.getLogger().handlers),
    }}
before = state()
import {module.name}
after = state()
changed = {{key: (before[key], after[key]) for key in after if after[key] != before[key]}}
assert not changed, changed
assert all(type(h) is logging.NullHandler for h in logging.getLogger("memguard").handlers)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_memguard_loads_only_what_it_needs() -> None:
    """A guard of memory must not bring megabytes of modules into a host that does without them."""
    heavy = ["asyncio", "rich", "structlog", "objgraph", "sqlite3", "ctypes", "email", "ssl"]
    heavy += ["http", "xml", "multiprocessing", "concurrent.futures", "unittest", "cachetools"]
    heavy += ["tempfile"]
    program = f"import sys, memguard; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
