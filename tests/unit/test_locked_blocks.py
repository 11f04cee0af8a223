"""No loop stands directly in a locked block of the caches: CPython may leave it locked."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import memguard.bounded

ROOM = Path(memguard.bounded.__file__).parent / "cache"
MODULES = sorted(str(path.relative_to(ROOM)) for path in ROOM.rglob("*.py"))
LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp)


def locked_blocks(tree: ast.AST) -> list[ast.AST]:
    """Return the statements that run with a lock held: ``with lock`` and ``acquire`` in a try."""
    blocks: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.With):
            names = [ast.unparse(item.context_expr) for item in node.items]
            if any(name.endswith(("lock", "mutex")) for name in names):
                blocks += node.body
        elif isinstance(node, ast.Try) and "release()" in ast.unparse(
            ast.Module(node.finalbody, [])
        ):
            blocks += node.body
    return blocks


def outside_of_functions(block: ast.AST) -> list[ast.AST]:
    """Return the nodes of *block* that run in the same frame."""
    found, stack = [], [block]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Lambda | ast.FunctionDef | ast.GeneratorExp):
            continue
        found.append(node)
        stack += list(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("module", MODULES)
def test_no_loop_stands_directly_in_a_locked_block(module: str) -> None:
    """
    The backward jump of a loop may run a signal handler, and in Python 3.12 and 3.13 the compiler
    leaves it out of the table of exception handlers: what the handler raises there skips
    ``finally`` and ``__exit__``, and the lock stays locked for ever. A call is covered, so loops go
    in functions.
    """
    tree = ast.parse((ROOM / module).read_text(encoding="utf-8"))
    offenders = [
        f"{module}:{node.lineno}"
        for block in locked_blocks(tree)
        for node in outside_of_functions(block)
        if isinstance(node, LOOPS)
    ]
    assert offenders == []
