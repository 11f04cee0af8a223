"""
Are reports true? 200 small programs of which it is known what grows, where, and who holds it.

    python -m benchmarks.truth [--count 200] [--seed 11] [--only REGEX]

Each runs in a process of its own under a detector that is ticked by its steps. A report is right
where the kind of growth, the first line, the first holder and its share (of tracemalloc's, within
15 %) are, and where a program that does not leak raises no alarm. Prints a table and what is
wrong; JSON goes to benchmarks/results.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Iterable

from benchmarks.record import machine, write
from tests.truth import programs
from tests.truth.judging import Result, judged
from tests.truth.parts import CONTAINERS, HOLDERS, PAYLOADS
from tests.truth.program import Program

GOAL = 0.97
LIVE_OBJECTS = "live objects with a name"
GROUPS = {
    LIVE_OBJECTS: "",
    "garbage in cycles": "cycles-",
    "memory of C": "native-",
    "leaked references": "extension-",
    "threads, tasks, files, sockets": "pile-",
    "freed, and kept by the allocator": "fragmentation-",
    "growth that ends": "ends-",
    "healthy": "healthy-",
}


def group_of(program: Program) -> str:
    """Return the row of the table that *program* is in."""
    prefixed = (row for row, prefix in GROUPS.items() if prefix and program.name.startswith(prefix))
    return next(prefixed, LIVE_OBJECTS)


def chosen(count: int, seed: int) -> list[Program]:
    """Return *count* programs: the special ones, and others made of parts."""
    special = list(programs.SPECIAL.values())[:count]
    return [*programs.composed(count - len(special), seed), *special]


def judge_all(found: Iterable[Program]) -> list[Result]:
    """Run them one after another, and say how far it is."""
    results = []
    for program in found:
        result = judged(program)
        results.append(result)
        mark = "right" if result.is_right else "WRONG"
        print(mark, program.name, *result.faults, sep="  ", file=sys.stderr, flush=True)
    return results


def table(results: list[Result]) -> str:
    """Return the table, and the total."""
    rows: defaultdict[str, list[Result]] = defaultdict(list)
    for result in results:
        rows[group_of(result.program)].append(result)
    known = [(group, rows[group]) for group in GROUPS if group in rows]
    lines = [f"| {group} | {right_of(row)} |" for group, row in (*known, ("all of them", results))]
    return "\n".join(("| programs | right |", "|---|---:|", *lines))


def table_of_parts(results: list[Result]) -> str:
    """Return what is right of the programs made of parts, by container, payload and holder."""
    kinds = {"container": list(CONTAINERS), "what leaks": list(PAYLOADS), "holder": list(HOLDERS)}
    lines = ["| part | right |", "|---|---|"]
    for kind, names in kinds.items():
        rows: dict[str, list[Result]] = {name: [] for name in names}
        for result in results:
            if group_of(result.program) == LIVE_OBJECTS:
                for part in parts_of(result.program.name, kind):
                    rows[part].append(result)
        cells = (f"{name} {right_of(row, '/')}" for name, row in rows.items() if row)
        lines.append(f"| {kind} | {', '.join(cells)} |")
    return "\n".join(lines)


def parts_of(name: str, kind: str) -> list[str]:
    """Return the part of that *kind* of a program, if any: some containers hold no payload."""
    container, *payload, holder = name.split("-")
    if container not in CONTAINERS:
        return []
    return {"container": [container], "what leaks": payload, "holder": [holder]}[kind]


def right_of(results: list[Result], of: str = " of ") -> str:
    """Return how many of them are right."""
    return f"{sum(result.is_right for result in results)}{of}{len(results)}"


def main(arguments: list[str] | None = None) -> None:
    """Run the programs asked for."""
    parser = argparse.ArgumentParser(description="Are reports true?")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--only", default="", help="a regular expression for their names")
    given = parser.parse_args(arguments)
    found = [
        program
        for program in chosen(given.count, given.seed)
        if re.search(given.only, program.name)
    ]
    results = judge_all(found)
    print(table(results), table_of_parts(results), sep="\n\n")
    about = machine()
    wrong = {result.program.name: result.faults for result in results if not result.is_right}
    shares = {r.program.name: round(r.share, 3) for r in results if r.share is not None}
    cost = round(sum(result.cpu_seconds for result in results), 1)
    if not given.only:
        path = write(
            "truth",
            about,
            {"count": len(results), "wrong": wrong, "shares": shares, "cpu_seconds": cost},
        )
        print(f"{path}: {about['python']}, {about['date']}")
    sys.exit(len(results) - len(wrong) < GOAL * len(results))


if __name__ == "__main__":
    main()
