"""The events that memguard logs, read from its source, and those that docs/logging.md tells of."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
EVENT = re.compile(r"[a-z]+\.[a-z_]+")
ROW = re.compile(
    r"^\| `(?P<event>[a-z.<>_]+)` \| (?P<level>[^|]+) \| (?P<keys>[^|]*) \|", re.MULTILINE
)
NOT_KEYS = {"exc_info"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Call:
    module: str
    node: ast.Call
    function: Function | None
    owner: ast.ClassDef | None

    @property
    def called(self) -> str:
        func = self.node.func
        return func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")

    @property
    def is_event(self) -> bool:
        return ast.unparse(self.node.func) == "log.event"

    def keys(self) -> set[str]:
        return {keyword.arg for keyword in self.node.keywords if keyword.arg} - NOT_KEYS


def calls(module: str, tree: ast.Module) -> Iterator[Call]:
    """Yield every call with the function and the class around it."""

    def walk(
        node: ast.AST, function: Function | None, owner: ast.ClassDef | None
    ) -> Iterator[Call]:
        if isinstance(node, ast.Call):
            yield Call(module, node, function, owner)
        if isinstance(node, Function):
            function = node
        elif isinstance(node, ast.ClassDef):
            owner = node
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function, owner)

    return walk(tree, None, None)


def texts(node: ast.AST) -> set[str]:
    """Return the strings written below *node*."""
    return {
        each.value
        for each in ast.walk(node)
        if isinstance(each, ast.Constant) and isinstance(each.value, str)
    }


def constants(tree: ast.Module | Function) -> dict[str, ast.AST]:
    """Return the names that a module, or a function, gives to values."""
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def events(sources: dict[str, str]) -> dict[str, set[str]]:
    """
    Return event → keys of every ``log.event`` in *sources*.

    A name that is a parameter of the function around it, or a field of its class, is looked for
    where that function or class is called.
    """
    trees = {module: ast.parse(source) for module, source in sources.items()}
    every = [call for module, tree in trees.items() for call in calls(module, tree)]
    found: defaultdict[str, set[str]] = defaultdict(set)
    for call in (each for each in every if each.is_event):
        name = call.node.args[1]
        named = constants(trees[call.module])
        if call.function is not None:
            named |= constants(call.function)
        written = texts(name)
        for each in ast.walk(name):
            if isinstance(each, ast.Name) and each.id in named:
                written |= texts(named[each.id])
        written |= choices(name, trees.values())
        written = {text for text in written if EVENT.fullmatch(text)}
        for text in written:
            found[text] |= call.keys()
        if not written:
            passed = passed_on(call, every)
            assert passed, f"nobody gives a name to {ast.unparse(call.node)} in {call.module}"
            for text, keys in passed:
                found[text] |= call.keys() | keys
    return dict(found)


def choices(name: ast.AST, trees: Iterable[ast.Module]) -> set[str]:
    """Return what an f-string with one field of an object can say: ``f"alert.{notice.status}"``."""
    if not isinstance(name, ast.JoinedStr):
        return set()
    fields = [each.value for each in name.values if isinstance(each, ast.FormattedValue)]
    if len(fields) != 1 or not isinstance(fields[0], ast.Attribute):
        return set()
    prefix = "".join(sorted(texts(name)))
    found: set[str] = set()
    for tree in trees:
        named = constants(tree)
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and node.target.id == fields[0].attr
            ):
                kind = node.annotation
                literal = named.get(kind.id, kind) if isinstance(kind, ast.Name) else kind
                found |= {prefix + text for text in texts(literal)}
    return found


def passed_on(call: Call, every: list[Call]) -> list[tuple[str, set[str]]]:
    """Return (event, more keys) for each way to a ``log.event`` that was given the name."""
    name = call.node.args[1]
    prefix = ""
    if isinstance(name, ast.JoinedStr):
        prefix = "".join(sorted(texts(name)))
    is_field = isinstance(name, ast.Attribute)
    through = call.owner if is_field else call.function
    if through is None:
        return []
    own = {
        each.arg
        for function in ast.walk(through)
        if function is through or getattr(function, "name", "") == "__init__"
        if isinstance(function, Function)
        for each in (*function.args.args, *function.args.kwonlyargs)
    }
    ways = [
        (other.module, prefix + text, other.keys() - own)
        for other in every
        if other.called == through.name and other.node.args
        for text in texts(other.node.args[0])
        if EVENT.fullmatch(prefix + text)
    ]
    if is_field:
        return [(event, keys) for _, event, keys in ways]
    # Others may have a function of that name: the nearest are meant.
    here = [way for way in ways if way[0] == call.module]
    package = call.module.rpartition("/")[0]
    beside = [way for way in ways if way[0].rpartition("/")[0] == package]
    return [(event, keys) for _, event, keys in here or beside or ways]


def source() -> dict[str, str]:
    return {
        file.relative_to(ROOT).as_posix(): file.read_text("utf-8")
        for file in sorted((ROOT / "src").rglob("*.py"))
    }


def documented() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "logging.md").read_text("utf-8")
    return {
        row["event"]: set(re.findall(r"`([a-z_]+)`", row["keys"])) for row in ROW.finditer(text)
    }
