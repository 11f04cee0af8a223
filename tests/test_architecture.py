"""The floors and laws of docs/architecture.md, read from the imports of the source."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import rooms

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
    {"memguard.leaks.detector", "memguard.report"},
    {"memguard.guard"},
    {"memguard.integrations", "memguard.cli", "memguard.__main__", "memguard"},
)
SIDEWAYS = {
    ("memguard.leaks.detector", "memguard.report"),  # it writes what it found
}
CONTAINERS = {
    "memguard.bounded.cache",
    "memguard.bounded.pool",
    "memguard.bounded.queue",
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
TREES = {module.name: module.tree() for module in MODULES}


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
    if is_in(imported, importer):  # a package names what its own modules define
        return True
    room, floor = room_and_floor(importer)
    other, other_floor = room_and_floor(imported)
    if other_floor == floor:
        return room == other or floor in (0, len(FLOORS) - 1) or (room, other) in SIDEWAYS
    return other_floor < floor


def test_importing_goes_down_the_floors() -> None:
    wrong = [
        f"{module.name} -> {imported}"
        for module in MODULES
        for imported in module.imports()
        if imported.split(".")[0] == "memguard"
        and imported != module.name
        and not may_import(module.name, imported)
    ]
    assert not wrong, "up or across:\n" + "\n".join(wrong)


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


def test_containers_do_not_import_one_another() -> None:
    wrong = [
        f"{module.name} -> {imported}"
        for module in MODULES
        for room in CONTAINERS
        if is_in(module.name, room)
        for imported in module.imports()
        if any(is_in(imported, other) for other in CONTAINERS - {room})
    ]
    assert not wrong


def is_in(name: str, room: str) -> bool:
    return name == room or name.startswith(f"{room}.")


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected parts of more than one module (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in arrows[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in arrows:
        if name not in index:
            visit(name)
    return found


def test_no_modules_import_one_another_in_a_circle() -> None:
    """Imports under TYPE_CHECKING count: a type that needs its user is in the wrong module."""
    arrows = {
        module.name: {name for name in module.imports() if name in NAMES and name != module.name}
        for module in MODULES
    }
    assert circles(arrows) == []


def test_a_circle_is_seen() -> None:
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}
    assert circles(arrows) == [["a", "b", "c"]]


def test_a_module_fits_in_the_head() -> None:
    lengths = {m.name: len(m.file.read_text("utf-8").splitlines()) for m in MODULES}
    assert not {name: count for name, count in lengths.items() if count > MOST_LINES}


def test_a_module_says_what_it_is_for() -> None:
    assert not [name for name, tree in TREES.items() if not ast.get_docstring(tree)]


def test_a_name_says_what_a_module_is_about() -> None:
    last = {name: name.rpartition(".")[2] for name in NAMES}
    empty_words = {"util", "utils", "common", "helpers", "misc"}
    assert not [name for name, word in last.items() if word.strip("_") in empty_words]
    private = {"_native", "_version", "_cache", "_heap", "__main__"}
    assert not [name for name, word in last.items() if word[0] == "_" and word not in private]


PACKAGES = {module.name for module in MODULES if module.file.stem == "__init__"}


def exported(tree: ast.Module) -> list[str]:
    """Return what a package offers: its literal ``__all__``, or the names it imports lazily."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return [name for name, _ in imported_lazily(tree)]


def imported_lazily(tree: ast.Module) -> set[tuple[str, str]]:
    """Return the names of ``lazy.exports`` with the modules that define them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy.exports":
            defined_in: dict[str, str] = ast.literal_eval(node.args[1])
            return {(name, home) for home, names in defined_in.items() for name in names.split()}
    return set()


def imported_for_type_checkers(tree: ast.Module) -> set[tuple[str, str]]:
    """Return the names that the package itself imports under TYPE_CHECKING, with their modules."""
    return {
        (alias.asname or alias.name, node.module or "")
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_room_offers_the_same_to_programs_and_to_type_checkers(package: str) -> None:
    tree = TREES[package]
    offered = imported_lazily(tree)
    assert offered == imported_for_type_checkers(tree)
    if offered:
        assert sorted(exported(tree)) == sorted(name for name, _ in offered)
        room = importlib.import_module(package)
        assert dir(room) == sorted(room.__all__)


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_what_a_room_offers_is_there(package: str) -> None:
    room = importlib.import_module(package)
    for name, home in imported_lazily(TREES[package]):
        defined = f"{home}.{name}" if home == package else home
        module = importlib.import_module(defined)
        assert getattr(room, name) is (module if home == package else getattr(module, name))


def test_no_exported_name_is_also_the_name_of_a_module() -> None:
    """``from room import name`` must not depend on what was imported before."""
    wrong = [
        f"{package}.{name}"
        for package in PACKAGES
        for name, home in imported_lazily(TREES[package])
        if f"{package}.{name}" in NAMES and home != package  # else it offers the module itself
    ]
    assert not wrong


def rooms_entered(importer: str, module: str) -> list[str]:
    """Return the packages around *module* that the importer is not in; commands are one room."""
    return [
        package
        for package in PACKAGES
        if is_in(module, package)
        and not is_in(importer, package)
        and not is_in(package, "memguard.cli")
    ]


def test_other_rooms_import_what_a_room_exports() -> None:
    """
    From the module that defines it, which is quicker to read, but only what its room offers.

    What an enclosing package offers will do: ``memguard`` itself offers the containers.
    """
    offers = {package: set(exported(TREES[package])) for package in PACKAGES}
    wrong = []
    for importer, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("mem"):
                continue
            module = str(node.module)
            rooms = rooms_entered(importer, module)
            around = [package for package in PACKAGES if is_in(module, package)]
            if rooms and importer not in around:
                wrong += [
                    f"{alias.name} of {module} (for {importer})"
                    for alias in node.names
                    if f"{module}.{alias.name}" not in PACKAGES
                    if not any(alias.name in offers[package] for package in around)
                ]
    assert not wrong, "not offered by its package:\n" + "\n".join(wrong)


def bases_of_classes(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return for each class of *trees*, by its full name, the full names of its bases."""
    found: dict[str, set[str]] = {}
    for module, tree in trees.items():
        full = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        full |= {node.name: f"{module}.{node.name}" for node in classes}
        for node in classes:
            bases = found.setdefault(full[node.name], set())  # one for each version may be defined
            for base in node.bases:
                first, dot, rest = ast.unparse(base).split("[")[0].partition(".")
                bases.add(full.get(first, first) + dot + rest)
    return found


def depth_of(name: str, bases: dict[str, set[str]]) -> int:
    """Return how many classes of *bases* stand above one another, up to *name*."""
    return 1 + max((depth_of(base, bases) for base in bases[name] & bases.keys()), default=0)


def test_no_inheritance_chain_of_ours_is_deeper_than_two() -> None:
    """Compose objects. Errors excepted: theirs is a tree for callers who catch."""
    bases = bases_of_classes(TREES)
    assert not [name for name in bases if depth_of(name, bases) > 2 and not name.endswith("Error")]


def test_a_deep_chain_is_seen_across_modules() -> None:
    trees = {
        "a": ast.parse("from abc import ABC\nclass A(ABC): ...\nclass B(A[int]): ..."),
        "b": ast.parse("import threading\nimport a\nfrom a import B as A\nclass C(A): ..."),
        "c": ast.parse("import threading\nclass Lock(threading.Lock): ..."),
    }
    bases = bases_of_classes(trees)
    assert {name: depth_of(name, bases) for name in bases} == {
        "a.A": 1,
        "a.B": 2,
        "b.C": 3,
        "c.Lock": 1,
    }


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


def test_only_the_tracing_room_starts_and_stops_tracing() -> None:
    callers = {name for name, tree in TREES.items() if tracing_calls(tree)}
    assert callers == {"memguard.leaks.evidence.tracing"}


@pytest.mark.parametrize(
    "source", ["import tracemalloc\ntracemalloc.stop()", "from tracemalloc import stop"]
)
def test_a_call_to_tracing_is_seen_however_it_is_written(source: str) -> None:
    assert tracing_calls(ast.parse(source)) == {"stop"}


def test_only_the_search_for_holders_knows_objgraph() -> None:
    users = {m.name for m in MODULES if "objgraph" in {n.split(".")[0] for n in m.imports()}}
    assert users == {"memguard.leaks.holders.paths"}


def declared_dependencies() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    found = re.search(r"^dependencies = (\[.*?^\])", text, re.MULTILINE | re.DOTALL)
    assert found
    return {re.split(r"[<>=!~; ]", line)[0] for line in ast.literal_eval(found[1])}


def test_the_core_depends_on_four_packages() -> None:
    assert declared_dependencies() == {"cachetools", "objgraph", "psutil", "structlog"}


def test_core_rooms_import_no_undeclared_package() -> None:
    """Only the edge may need an extra, and only where it is used."""
    allowed = declared_dependencies() | set(sys.stdlib_module_names) | {"memguard"}
    undeclared = {
        f"{module.name} -> {name}"
        for module in MODULES
        if not module.name.startswith(EDGE)
        for name in module.imports(at_run_time=True)
        if name.split(".")[0] not in allowed
    }
    assert not undeclared


# Each module in a child of its own: nothing of memguard is loaded before it.
IMPORT_ALONE = """
import gc, importlib, logging, os, signal, sys, threading, traceback, tracemalloc, warnings
import asyncio, cachetools, objgraph, psutil, structlog  # not ours, and slow to import 250 times

def state():
    return {
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "warning filters": list(warnings.filters),
        "gc": (list(gc.callbacks), gc.get_threshold(), gc.isenabled()),
        "hooks": (sys.excepthook, threading.excepthook, sys.getprofile(), sys.gettrace()),
        "tracing": tracemalloc.is_tracing(),
        "threads": threading.enumerate(),
        "root handlers": list(logging.getLogger().handlers),
    }

def check(name):
    before = state()
    importlib.import_module(name)
    after = state()
    changed = {key: (before[key], after[key]) for key in after if after[key] != before[key]}
    assert not changed, changed
    handlers = logging.getLogger("memguard").handlers
    assert all(type(handler) is logging.NullHandler for handler in handlers)

for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            check(name)
        except BaseException:
            print(name, traceback.format_exc(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="one child for each module is forked")
@pytest.mark.stress
def test_a_module_can_be_imported_alone_and_starts_nothing() -> None:
    """In a fresh process with warnings as errors: no thread, hook, signal, filter, output."""
    names = sorted(NAMES - {"memguard.__main__"})  # importing that one runs the command line
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_ALONE, *names],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


HEAVY = (
    *("asyncio", "cachetools", "concurrent.futures", "ctypes", "email", "http", "multiprocessing"),
    *("objgraph", "rich", "sqlite3", "ssl", "structlog", "tempfile", "unittest", "xml"),
)
HEAVY_FOR_A_CONTAINER = (*HEAVY, "fractions", "logging", "pathlib", "psutil", "socket")


def modules_after(statement: str) -> set[str]:
    """Return what a new interpreter has loaded for *statement* alone."""
    program = (
        f"import sys; before = {{*sys.modules}}; {statement}; print(*{{*sys.modules}} - before)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_memguard_loads_nothing() -> None:
    assert modules_after("import memguard") == {"memguard", "memguard.lazy"}


@pytest.mark.parametrize(
    ("names", "heavy"),
    [
        (("BoundedCache", "cached", "ObjectPool", "size_of"), HEAVY_FOR_A_CONTAINER),
        (("LeakDetector", "install"), HEAVY),
    ],
)
def test_a_name_loads_only_what_it_needs(names: tuple[str, ...], heavy: tuple[str, ...]) -> None:
    """A guard of memory must not bring megabytes of modules into a host that does without them."""
    for name in names:
        assert not modules_after(f"from memguard import {name}") & set(heavy)


def test_threads_are_joined_by_the_threads_module() -> None:
    """``Thread.join`` raises where another thread is just starting the one that is waited for."""
    joins = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr == "join" and "thread" in ast.unparse(node.func.value)
        if ast.unparse(node.func.value) != "threads"
    }
    assert joins == {"memguard.lifecycle.threads"}


OWN_LOCKS = {
    "memguard.lifecycle.locks",  # it makes them
    "memguard.lifecycle.turn",  # these three never take theirs by `with`
    "memguard.lifecycle.wake",
    "memguard.bounded.waiting",
}


def test_locks_are_made_by_the_locks_module() -> None:
    """Those of threading are left held by a raising signal handler on CPython 3.14."""
    kinds = {"Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Barrier"}
    makers = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in kinds)
        and (isinstance(node.value, ast.Name) and node.value.id == "threading")
    }
    assert makers == OWN_LOCKS


def test_the_document_draws_the_rooms_as_they_are() -> None:
    text = rooms.DOCUMENT.read_text("utf-8")
    assert text == rooms.document(text), f"run {rooms.RENEW}"
