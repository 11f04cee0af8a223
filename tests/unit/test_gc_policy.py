"""The collector's settings: put where asked, moved within a share of the time, put back."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import Any

import pytest

from memguard.errors import ConfigError, LifecycleError
from memguard.observe.gcwatch import GcWatch
from memguard.relief.collector import Collecting, GcPolicy, prefork
from tests.clock import FakeClock


def test_thresholds_are_set_and_put_back() -> None:
    before = gc.get_threshold()
    with GcPolicy(threshold=(5000, 20, 30)) as policy:
        assert gc.get_threshold()[0] == 5000
        assert policy.statistics().active
        assert policy.statistics().original == before
        with pytest.raises(LifecycleError):
            policy.start()
    assert gc.get_threshold() == before
    policy.close()


def test_thresholds_that_somebody_else_changed_are_left_alone() -> None:
    before = gc.get_threshold()
    policy = GcPolicy(threshold=(5000, 20, 30)).start()
    gc.set_threshold(1234)
    policy.stop()
    assert gc.get_threshold()[0] == 1234
    gc.set_threshold(*before)


class Watched(GcWatch):  # type: ignore[misc]  # reason: final for users; here it is told what it saw
    """A watch that is told what the collector did."""

    seen: tuple[float, float, int] = (0.0, 0.0, 0)

    def statistics(self) -> Any:
        seconds, pauses, count = self.seen

        class Statistics:
            watched_seconds = seconds
            pause_total = pauses
            collections = count

        return Statistics


def test_collecting_that_takes_too_long_becomes_rarer_and_then_as_it_was() -> None:
    before = gc.get_threshold()
    watch = Watched()
    with GcPolicy(time_share=0.05, watch=watch) as policy:
        for second in range(1, 4):
            watch.seen = (float(second), 0.2 * second, 10 * second)
            policy.tick()
        assert gc.get_threshold()[0] == before[0] * 8
        assert policy.statistics().share == pytest.approx(0.2)
        for second in range(4, 12):
            watch.seen = (float(second), 0.6 + 0.001 * second, 10 * second)
            policy.tick()
        assert gc.get_threshold() == before
        assert (policy.statistics().raised, policy.statistics().lowered) == (3, 3)
        watch.seen = (13.0, 5.0, 111)
        policy.tick()
        assert gc.get_threshold() == before, "one collection tells nothing about a share"
    assert gc.get_threshold() == before


def test_a_collector_that_is_switched_off_stays_so() -> None:
    before = gc.get_threshold()
    watch = Watched()
    with GcPolicy(threshold=(0, 10, 10), time_share=0.05, watch=watch) as policy:
        watch.seen = (1.0, 0.9, 100)
        policy.tick()
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, ConfigError, "required"),
        ({"threshold": 700}, TypeError, "tuple of three"),
        ({"threshold": (1, 2, "3")}, TypeError, "threshold must be an int"),
        ({"threshold": (-1, 2, 3)}, ConfigError, "from 0 to"),
        ({"time_share": 0}, ConfigError, "time_share must be from 0.0001 to 1"),
        ({"time_share": "x"}, TypeError, "time_share must be a number"),
    ],
)
def test_wrong_options_are_refused(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        GcPolicy(**options)


def test_what_is_loaded_is_frozen_for_workers_and_thawed_again() -> None:
    """In a process of its own: what other tests have left here may die between the two counts."""
    code = (
        "import gc\n"
        "from memguard.relief.collector import prefork\n"
        "with prefork() as done:\n"
        "    count = gc.get_freeze_count()\n"
        "    assert done.frozen == count > 1000, (done.frozen, count)\n"
        "    assert gc.isenabled()\n"
        "assert gc.get_freeze_count() == 0\n"
        "done.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_parent_may_stop_collecting_and_its_workers_do_not() -> None:
    done = prefork(disable=True)
    assert not gc.isenabled()
    done.in_child()
    assert gc.isenabled()
    assert gc.get_freeze_count() > 0
    done.close()
    assert gc.get_freeze_count() == 0


class TestCollecting:
    def make(
        self,
        clock: FakeClock,
        *,
        blocks: int = 1000,
        pause: float = 0.0,
        watch: GcWatch | None = None,
    ) -> tuple[Collecting, list[int]]:
        generations: list[int] = []
        spent = FakeClock()

        def collect(generation: int) -> int:
            generations.append(generation)
            spent.advance(pause)
            return 5

        return Collecting(
            share=0.05,
            timer=clock,
            collect=collect,
            blocks=lambda: blocks,
            cost=spent,
            watch=watch,
        ), generations

    def test_a_small_heap_is_collected_in_full(self, fake_clock: FakeClock) -> None:
        collecting, generations = self.make(fake_clock)
        assert collecting.run(0.01) == (5, None)
        assert generations == [2]

    def test_a_pause_that_would_be_too_long_is_not_begun(self, fake_clock: FakeClock) -> None:
        collecting, generations = self.make(fake_clock, blocks=10_000_000)
        collecting.run(0.5)
        assert generations == [1]
        collecting.run(3.0, force=True)
        assert generations == [1, 2]

    def test_what_a_collection_took_is_known_from_then_on(self, fake_clock: FakeClock) -> None:
        collecting, generations = self.make(fake_clock, blocks=1_000_000)
        collecting.run(0.3, force=True)
        collecting.run(0.01, force=True)
        assert generations == [2, 2], "it was over at once, however many blocks there are"
        collecting, generations = self.make(fake_clock, blocks=1_000_000, pause=0.7)
        collecting.run(0.5, force=True)
        collecting.run(0.5, force=True)
        assert generations == [2, 1], "one that took too long is not repeated"

    def test_a_heap_of_which_nothing_is_known_is_taken_to_be_slow(
        self, fake_clock: FakeClock
    ) -> None:
        """A million containers, in any order, took 0.9 to 1.6 seconds."""
        collecting, generations = self.make(fake_clock, blocks=2_300_000)
        collecting.run(0.5)
        assert generations == [1]

    def test_pauses_of_the_interpreter_itself_are_known(self, fake_clock: FakeClock) -> None:
        now = [0]
        watch = GcWatch(timer_ns=lambda: now[0])
        collecting, generations = self.make(fake_clock, blocks=2_000_000, watch=watch)
        assert watch.last_full_pause is None
        for pause, generation in ((400_000_000, 1), (9_000_000, 2), (300_000_000, 2)):
            watch._tally.callback("start", {})
            now[0] += pause
            watch._tally.callback(
                "stop", {"generation": generation, "collected": 0, "uncollectable": 0}
            )
            now[0] += 1
        assert watch.last_full_pause == pytest.approx(0.3)
        collecting.run(0.38, force=True)
        collecting.run(0.4, force=True)
        assert generations == [1, 2], "with something to spare: the heap has grown since"

    def test_it_takes_only_a_share_of_the_time(self, fake_clock: FakeClock) -> None:
        collecting, _ = self.make(fake_clock, pause=0.1)
        collecting.run(0.01)
        found, why_not = collecting.run(0.01)
        assert (found, why_not) == (0, "its share of the time is used up")
        fake_clock.advance(10)
        assert collecting.run(0.01)[1] is None
