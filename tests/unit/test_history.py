"""History: what it keeps, how it rolls up, what an hour is called, and a file that fails."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memguard.errors import ConfigError, LifecycleError
from memguard.observe.history import History, HourThresholds
from memguard.observe.history_file import HistoryFile
from memguard.observe.readings import Reading
from memguard.observe.rollup import Bucket, minute_of, percentile, roll_up
from tests.clock import FakeClock

MIB = 1024**2
HOUR = 3600.0
NOON = 480_000 * HOUR


@pytest.fixture
def wall() -> FakeClock:
    """Seconds since the epoch, at the full hour."""
    return FakeClock(NOON)


def row(private: int | None, at: float = 0.0) -> Reading:
    return Reading(at=at, rss=private, anon=private)


def fill(history: History, clock: FakeClock, sizes: list[int], *, every: float = 60.0) -> None:
    for size in sizes:
        history.add(row(size))
        clock.advance(every)


def test_the_ring_keeps_the_last_readings(wall: FakeClock) -> None:
    history = History(maxlen=3, clock=wall)
    for number in range(5):
        history.add(row(number))
    assert [reading.rss for reading in history.last()] == [2, 3, 4]
    assert [reading.rss for reading in history.last(2)] == [3, 4]
    assert history.last(0) == ()
    assert len(history.last(99)) == 3
    assert history.statistics().added == 5


@pytest.mark.parametrize(
    ("sizes", "percent", "kind"),
    [
        ([100, 110, 121], 21.0, "high_growth"),
        ([100, 120], 20.0, "moderate"),
        ([1000, 1101], 10.1, "moderate"),
        ([100, 110], 10.0, "stable"),
        ([100, 100], 0.0, "stable"),
        ([100, 90], -10.0, "stable"),
        ([100, 89], -11.0, "declining"),
        ([100], None, "unknown"),
    ],
)
def test_an_hour_is_called_by_its_growth(
    wall: FakeClock, sizes: list[int], percent: float | None, kind: str
) -> None:
    history = History(clock=wall)
    fill(history, wall, [size * MIB for size in sizes])
    (hour,) = history.hours()
    assert hour.kind == kind
    assert hour.growth_percent == (None if percent is None else pytest.approx(percent))


def test_thresholds_are_options(wall: FakeClock) -> None:
    history = History(clock=wall, thresholds=HourThresholds(high=3.0, moderate=1.0, declining=-1.0))
    fill(history, wall, [100 * MIB, 105 * MIB])
    assert history.hours()[0].kind == "high_growth"


def test_an_hour_has_its_average_its_lowest_and_its_peak(wall: FakeClock) -> None:
    history = History(clock=wall)
    fill(history, wall, [10, 50, 30])
    (hour,) = history.hours()
    assert (hour.average, hour.lowest, hour.peak, hour.count) == (30, 10, 50, 3)
    assert hour.start == int(NOON)


def test_one_noisy_reading_does_not_make_growth(wall: FakeClock) -> None:
    """Growth goes from the mean of the first minute to the mean of the last."""
    history = History(clock=wall)
    fill(history, wall, [100, 100, 100, 100], every=15.0)
    fill(history, wall, [100, 100, 100, 140], every=15.0)
    assert history.hours()[0].growth_percent == pytest.approx(10.0)


def test_each_hour_stands_for_itself(wall: FakeClock) -> None:
    history = History(clock=wall)
    fill(history, wall, [100 + number for number in range(120)])
    first, second = history.hours()
    assert (first.count, second.count) == (60, 60)
    assert second.start - first.start == 3600
    assert first.growth_percent == pytest.approx(59.0)
    assert second.growth_percent == pytest.approx(59 * 100 / 160)


def test_old_minutes_become_hours_and_say_the_same() -> None:
    sizes = [1000 + number * 7 % 311 for number in range(400)]
    clock, other_clock = FakeClock(NOON), FakeClock(NOON)
    long = History(clock=clock, keep_minutes=1000)
    short = History(clock=other_clock, keep_minutes=5)
    fill(long, clock, sizes)
    fill(short, other_clock, sizes)
    assert short.statistics().hours == 7
    assert short.statistics().minutes <= 6
    summary = [(hour.start, hour.average, hour.peak, hour.growth_percent) for hour in long.hours()]
    assert [(h.start, h.average, h.peak, h.growth_percent) for h in short.hours()] == summary


def test_old_hours_are_dropped_and_counted(wall: FakeClock) -> None:
    history = History(clock=wall, keep_minutes=1, keep_hours=2)
    fill(history, wall, [100] * 10, every=HOUR)
    assert history.statistics().hours == 2
    assert history.statistics().hours_dropped == 6
    assert len(history.hours()) == 4


def test_a_clock_that_is_set_back_neither_fails_nor_loses_readings() -> None:
    now = [NOON + 7200]
    history = History(clock=lambda: now[0], keep_minutes=2)
    for _ in range(5):
        history.add(row(100))
        now[0] += 60
    now[0] = NOON
    for _ in range(5):
        history.add(row(100))
        now[0] += 60
    assert sum(hour.count for hour in history.hours()) == 10
    starts = [hour.start for hour in history.hours()]
    assert starts == sorted(starts)


def test_a_blind_row_is_kept_and_counted_but_makes_no_minute(wall: FakeClock) -> None:
    history = History(clock=wall)
    history.add(row(None))
    assert len(history.last()) == 1
    assert history.statistics().blind == 1
    assert history.minutes() == ()
    assert history.percentiles() == {}


def test_a_minute_with_too_many_readings_is_thinned_and_says_so(
    wall: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memguard.observe.history._READINGS_PER_MINUTE", 3)
    history = History(clock=wall)
    for _ in range(5):
        history.add(row(1))
    assert history.statistics().thinned == 2
    assert history.minutes()[0].count == 3


def test_percentiles_are_over_the_ring(wall: FakeClock) -> None:
    history = History(clock=wall)
    for size in range(101):
        history.add(row(size))
    assert history.percentiles((0, 50, 99, 100)) == {0: 0, 50: 50, 99: 99, 100: 100}
    assert history.percentiles([25], field="rss") == {25: 25}
    assert history.percentiles(field="threads") == {}


@pytest.mark.parametrize("field", ["source", "gc_counts", "colour", "__class__"])
def test_percentiles_of_what_is_no_number_are_refused(wall: FakeClock, field: str) -> None:
    history = History(clock=wall)
    history.add(Reading(at=0.0, rss=1, gc_counts=(1, 2, 3)))
    with pytest.raises(ConfigError, match="field must name a number of Reading"):
        history.percentiles(field=field)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=40), st.floats(0, 100))
def test_a_percentile_lies_between_the_extremes_and_does_not_shrink(
    values: list[int], percent: float
) -> None:
    values.sort()
    found = percentile(values, percent)
    assert values[0] <= found <= values[-1]
    assert percentile(values, 0) == values[0]
    assert percentile(values, 100) == values[-1]
    assert found <= percentile(values, min(100.0, percent + 5)) + 1e-3


@pytest.mark.parametrize("percent", [-1, 101, float("nan")])
def test_a_percent_out_of_range_is_refused(percent: float) -> None:
    with pytest.raises(ConfigError, match="percentiles are 0 to 100"):
        percentile([1], percent)


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one value"):
        percentile([], 50)


minutes = st.builds(
    minute_of,
    st.just("run"),
    st.integers(0, 300).map(lambda minute: minute * 60.0),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=4),
)


@given(st.lists(minutes, max_size=30, unique_by=lambda bucket: bucket.start), st.integers(0, 30))
def test_rolling_up_in_two_steps_gives_what_one_step_gives(buckets: list[Bucket], cut: int) -> None:
    """Minutes fall off one by one; the hours must not depend on when."""
    at_once = roll_up(buckets, seconds=3600)
    first = roll_up(buckets[:cut], seconds=3600)
    assert roll_up((*first, *buckets[cut:]), seconds=3600) == at_once
    assert sum(bucket.count for bucket in at_once) == sum(bucket.count for bucket in buckets)
    assert sum(bucket.total for bucket in at_once) == sum(bucket.total for bucket in buckets)


@pytest.mark.parametrize(
    "options",
    [
        {"maxlen": 0},
        {"maxlen": 10**7},
        {"keep_minutes": 0},
        {"keep_hours": -4},
    ],
)
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ConfigError, match=f"{name} must be from 1 to"):
        History(**options)


@pytest.mark.parametrize("options", [{"maxlen": None}, {"keep_hours": 2.0}, {"maxlen": True}])
def test_an_option_of_the_wrong_kind_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be an int"):
        History(**options)


def test_thresholds_must_be_reachable() -> None:
    with pytest.raises(ConfigError, match="declining < moderate < high"):
        HourThresholds(high=5.0)
    with pytest.raises(ConfigError, match="high must be from"):
        HourThresholds(high=float("inf"))
    with pytest.raises(TypeError, match="high must be a number"):
        HourThresholds(high="20")  # type: ignore[arg-type]  # reason: that is what is tested
    with pytest.raises(TypeError, match="HourThresholds"):
        History(thresholds=20)  # type: ignore[arg-type]  # reason: that is what is tested


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ConfigError, match="count must be >= 0"):
        History().last(-1)


# --- the file ------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def file_of(history: History) -> HistoryFile:
    assert history._journal is not None
    return history._journal.file


def test_a_history_outlives_its_process(path: Path, wall: FakeClock) -> None:
    with History(path=path, clock=wall) as history:
        fill(history, wall, [100, 110, 130])
        before = history.hours()
    wall.advance(HOUR)
    with History(path=path, clock=wall) as later:
        assert later.hours() == before
        fill(later, wall, [200, 200])
        first, second = later.hours()
        assert first == before[0]
        assert second.kind == "stable"


def test_growth_is_not_told_across_a_restart(path: Path, wall: FakeClock) -> None:
    """A fresh process is smaller than the one it replaced; that is no decline."""
    with History(path=path, clock=wall) as history:
        fill(history, wall, [500, 500])
    with History(path=path, clock=wall) as history:
        fill(history, wall, [100, 100])
        kinds = [(hour.kind, hour.average) for hour in history.hours()]
    assert kinds == [("stable", 500), ("stable", 100)]


def test_the_file_is_private(path: Path, wall: FakeClock) -> None:
    with History(path=path, clock=wall):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.with_name("history.db.lock").stat().st_mode) == 0o600


def test_the_file_says_what_memory_says(path: Path) -> None:
    sizes = [1000 + number * 13 % 401 for number in range(300)]
    clock, file_clock = FakeClock(NOON), FakeClock(NOON)
    memory = History(clock=clock)
    fill(memory, clock, sizes)
    with History(path=path, clock=file_clock, keep_minutes=7) as stored:
        fill(stored, file_clock, sizes)
        told = [(h.start, h.count, h.average, h.peak, h.growth_percent) for h in stored.hours()]
        assert told == [
            (h.start, h.count, h.average, h.peak, h.growth_percent) for h in memory.hours()
        ]


def test_the_file_is_capped(path: Path, wall: FakeClock) -> None:
    with History(path=path, clock=wall, keep_minutes=10, keep_hours=3) as history:
        fill(history, wall, [100] * 600)
        history.flush()
        assert history.statistics().hours_dropped > 0
    with sqlite3.connect(path) as connection:
        counts = dict(connection.execute("SELECT seconds, count(*) FROM bucket GROUP BY seconds"))
    connection.close()
    assert counts == {60: 10, 3600: 3}
    assert path.stat().st_size <= 32768


def test_a_second_writer_is_refused(path: Path, wall: FakeClock) -> None:
    with (
        History(path=path, clock=wall),
        pytest.raises(LifecycleError, match="another History of this process"),
    ):
        History(path=path)
    History(path=path, clock=wall).close()


def test_a_database_of_someone_else_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="another application"):
        History(path=path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.write_text("a config file of someone's\n" * 100)
    with pytest.raises(ConfigError, match="not a readable SQLite database"):
        History(path=path)
    assert path.read_text().startswith("a config file")


def test_a_directory_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        History(path=tmp_path / "no" / "history.db")


def test_a_write_that_fails_is_counted_logged_once_and_made_up_for(
    path: Path,
    wall: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    history = History(path=path, clock=wall)
    with monkeypatch.context() as broken:

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        broken.setattr(file_of(history), "write", full)
        fill(history, wall, [100, 110, 120])
        statistics = history.statistics()
        assert statistics.file_errors >= 2
        assert statistics.file_error is not None
        assert "disk is full" in statistics.file_error
        assert statistics.unwritten == 2
        assert sum("history.file_failed" in r.getMessage() for r in caplog.records) == 1
        assert history.hours()[0].count == 3, "what waits is in the answer"
    history.flush()
    statistics = history.statistics()
    assert (statistics.unwritten, statistics.file_error) == (0, None)
    assert statistics.file_errors >= 2
    history.close()
    with History(path=path, clock=wall) as again:
        assert again.hours()[0].count == 3


def test_minutes_that_wait_too_long_are_dropped_and_counted(
    path: Path, wall: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History(path=path, clock=wall)
    with monkeypatch.context() as broken:

        def full(*_: object) -> None:
            raise OSError("disk is full")

        broken.setattr(file_of(history), "write", full)
        fill(history, wall, [100] * 130)
        assert history.statistics().unwritten == 120
        assert history.statistics().unwritten_dropped == 9
    history.close()


def test_a_read_that_fails_leaves_the_answer_of_this_run(
    path: Path, wall: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with History(path=path, clock=wall) as history:
        fill(history, wall, [100, 130])

        def malformed() -> None:
            raise sqlite3.DatabaseError("malformed")

        with monkeypatch.context() as broken:
            broken.setattr(file_of(history), "read", malformed)
            (hour,) = history.hours()
        assert (hour.count, hour.kind) == (2, "high_growth")
        assert history.statistics().file_errors == 1


def test_a_closed_history_answers_but_takes_no_more(path: Path, wall: FakeClock) -> None:
    history = History(path=path, clock=wall)
    fill(history, wall, [100, 130])
    history.close()
    history.close()
    assert history.hours()[0].count == 2
    assert history.statistics().file is None
    with pytest.raises(LifecycleError, match="closed"):
        history.add(row(1))


def test_no_connection_outlives_a_call(path: Path, wall: FakeClock) -> None:
    """So that none is ever carried through a fork."""
    with History(path=path, clock=wall) as history:
        fill(history, wall, [100, 130])
        history.flush()
        names = [os.fspath(link) for link in _open_files()]
        assert any(name.endswith("history.db.lock") for name in names), "the look itself works"
        assert not any(name.endswith(("history.db", "history.db-wal")) for name in names)


def _open_files() -> list[Path]:
    directory = Path("/proc/self/fd")
    if not directory.is_dir():
        pytest.skip("no /proc/self/fd to look at")
    found = []
    for link in directory.iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is gone by now
            found.append(link.readlink())
    return found
