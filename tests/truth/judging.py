"""Run a program in a process of its own and say what of its report is not so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memguard.leaks.report import RESOURCES
from tests.truth.program import Program

HOST = Path(__file__).with_name("host.py")
TOLERANCE = 0.15
"""By how much a share may differ from what tracemalloc measures."""
OTHER_HEADLINES = ("instances of ", *(f"{kind} pile up" for kind in RESOURCES))
MOST_STEPS = 100_000
"""After which a program is weighed: as far as its report, up to here."""
SECONDS = 120
"""For a program, however busy the machine is."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was reported of a program, and what of it is wrong."""

    program: Program
    answer: dict[str, Any]
    faults: tuple[str, ...]
    share: float | None = None
    """Of what the program leaks, as the report has it."""
    cpu_seconds: float = 0.0

    @property
    def is_right(self) -> bool:
        """True where all of it is so."""
        return not self.faults


def judged(program: Program, python: str = sys.executable) -> Result:
    """Run *program* under a detector and compare its report with the truth."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shop.py"
        path.write_text(program.source, "utf-8")
        measured = 0 if program.share is None else MOST_STEPS
        wishes = ["look"] * bool(program.at_the_end)
        wishes += ["to-the-end"] * bool(program.ends or program.at_the_end)
        numbers = map(str, (program.rate, program.readings, measured))
        before = os.times()
        try:
            done = subprocess.run(
                [python, str(HOST), path, *numbers, *wishes],
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Result(program=program, answer={}, faults=("does not end",))
        after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    if done.returncode or done.stderr:
        fault = f"exit {done.returncode}: {done.stderr[-800:]}"
        return Result(program=program, answer={}, faults=(fault,), cpu_seconds=cpu)
    answer = json.loads(done.stdout)
    faults, share = _compared(program, answer)
    return Result(
        program=program, answer=answer, faults=tuple(faults), share=share, cpu_seconds=cpu
    )


def _compared(program: Program, answer: dict[str, Any]) -> tuple[list[str], float | None]:
    """Return what is wrong of *answer*, and the share of the leak that its first holder has."""
    if program.at_the_end:
        return _wrong_kind(program.at_the_end, answer["looked"]), None
    if program.ends:
        open_ones = filter(_is_open, answer["reports"])
        return [f"still open: {_words(report)}" for report in open_ones], None
    alarms = answer["alarms"]
    if program.alarm is False:
        return [f"false alarm: {_words(alarm)}" for alarm in alarms], None
    seen = alarms or (answer["reports"] if program.alarm is None else [])
    if not seen:
        return (["no alarm"] if program.alarm else []), None
    report = seen[0]
    share = _share(program, report, answer["bytes_per_step"])
    faults = [
        *_wrong_kind(program.kinds, report),
        *_wrong_line(program, report),
        *_wrong_headline(program, report),
        *_wrong_holder(program, report),
    ]
    wanted = program.share
    if share is not None and wanted and abs(share - wanted) > TOLERANCE * wanted:
        faults.append(f"share {share:.2f}, not {wanted:.2f}")
    return faults, share


def _wrong_kind(kinds: tuple[str, ...], report: dict[str, Any]) -> list[str]:
    kind = report["verdict"]["kind"]
    return [] if kind in kinds else [f"kind {kind}, not {' or '.join(kinds)}"]


def _wrong_line(program: Program, report: dict[str, Any]) -> list[str]:
    """Judge the line to read first. None is right where it cannot be seen, a wrong one never is."""
    seen = report["place"]
    right = {f"shop.py:{line}" for line in program.lines}
    if not right or seen in right or (seen is None and program.may_hide_its_line):
        return []
    return [f"line {seen}, not {' or '.join(sorted(right))}"]


def _wrong_headline(program: Program, report: dict[str, Any]) -> list[str]:
    """Judge the headline: it begins with the holder, or names what has none."""
    words: str = report["headline"]
    begins = (*program.holders, *OTHER_HEADLINES)
    if not program.holders or report["verdict"]["kind"] == "native":
        begins = (*begins, "memory ")
    right = words.startswith(begins)
    return [] if right else [f"headline {words!r}"]


def _wrong_holder(program: Program, report: dict[str, Any]) -> list[str]:
    """Judge the first holder: of what nothing holds none may explain much."""
    path = report["holders"][0]["path"] if report["holders"] else None
    if program.holders:
        right = path is not None and path.startswith(program.holders)
        return [] if right else [f"holder {path}, not {program.holders[0]}"]
    named = next((holder["path"] for holder in report["holders"] if holder["anchored"]), None)
    if named in program.lists:
        return []
    explained = report["explained_ratio"] or 0
    return [f"holder {named} of what nothing holds"] if named and explained > TOLERANCE else []


def _share(program: Program, report: dict[str, Any], bytes_per_step: float | None) -> float | None:
    """Return the share of the leak that its first holder has, or all instances that have none."""
    rows = report["holders"]
    if program.holders:
        rows = [holder for holder in rows if holder["anchored"]][:1]
    if program.share is None or not rows or not bytes_per_step:
        return None
    rate = sum(row["bytes_per_minute"] or 0.0 for row in rows)
    return float(rate / (bytes_per_step * program.rate * 60))


def _is_open(report: dict[str, Any]) -> bool:
    state = report["state"]
    return state in ("suspected", "leaking") or (state is None and report["kind"] == "leak")


def _words(report: dict[str, Any]) -> str:
    holder = report["holders"][0]["path"] if report["holders"] else None
    return f"{report['verdict']['kind']}, {holder}"
