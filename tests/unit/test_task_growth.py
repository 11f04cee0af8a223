"""Sums of growth by the name of a task: bounded, exact, sorted."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from memguard.integrations.workers.celery import MOST_NAMES, OTHERS, GrowthTable, TaskGrowth

NAMES = st.text("abc", max_size=3)
runs_of_tasks = st.lists(st.tuples(NAMES, st.integers(-(2**40), 2**40)), max_size=60)


@given(runs_of_tasks)
def test_the_sums_are_those_of_the_runs_and_the_worst_is_first(runs: list[tuple[str, int]]) -> None:
    table = GrowthTable()
    expected: dict[str, list[int]] = defaultdict(list)
    for name, grown in runs:
        table.add(name, grown)
        expected[name].append(grown)
    rows = table.rows()
    assert {row.name: (row.runs, row.grown, row.largest) for row in rows} == {
        name: (len(all_of), sum(all_of), max(all_of)) for name, all_of in expected.items()
    }
    assert [row.grown for row in rows] == sorted((row.grown for row in rows), reverse=True)


def test_more_names_than_it_keeps_are_added_up_under_one() -> None:
    table = GrowthTable()
    for number in range(MOST_NAMES + 50):
        table.add(f"task-{number}", 1)
    table.add("task-0", 1)
    rows = {row.name: row for row in table.rows()}
    assert len(rows) == MOST_NAMES + 1
    assert rows[OTHERS] == TaskGrowth(name=OTHERS, runs=50, grown=50, largest=1)
    assert rows["task-0"].runs == 2
