"""A guard's file: private_directory, whole, renewed in time, and gone when its process is."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard import MemoryGuard
from memguard.errors import ConfigError
from memguard.guard.environment import options_from
from memguard.lifecycle import identity, private_directory
from memguard.report.publish import process_status, reader
from memguard.report.publish import publisher as publishing
from memguard.report.publish.publisher import Publisher, directory_of
from tests.clock import FakeClock

posix = pytest.mark.skipif(os.name != "posix", reason="owners and modes of POSIX")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "published"


@pytest.fixture
def guard() -> MemoryGuard:
    return MemoryGuard(leaks=False, relief=False, name="tested")


@pytest.fixture
def publisher(home: Path, fake_clock: FakeClock) -> Iterator[Publisher]:
    made = Publisher(home, within=3.0, timer=fake_clock)
    made.open()
    yield made
    made.stop()


def names(home: Path) -> list[str]:
    return sorted(entry.name for entry in home.iterdir()) if home.exists() else []


def test_it_writes_one_private_file_that_others_read(
    publisher: Publisher, home: Path, guard: MemoryGuard
) -> None:
    publisher.publish(guard)
    (name,) = names(home)
    file = home / name
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    (one,) = reader.look([home]).guards
    assert one.file == file
    assert (one.status.health.process_id, one.status.health.guard) == (os.getpid(), "tested")
    assert publisher.statistics().file == str(file)
    publisher.stop()
    assert names(home) == []
    assert publisher.statistics().file is None


def test_it_is_written_again_only_when_it_is_time(
    publisher: Publisher, guard: MemoryGuard, fake_clock: FakeClock
) -> None:
    for _ in range(100):
        publisher.publish(guard)
    assert publisher.statistics().written == 1
    fake_clock.advance(100.0)
    publisher.publish(guard)
    assert publisher.statistics().written == 2


def test_what_is_dear_is_done_less_often(
    publisher: Publisher,
    guard: MemoryGuard,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spent = iter((0.0, 0.2))  # seconds of processor time before and after
    monkeypatch.setattr(time, "thread_time", lambda: next(spent, 0.2))
    publisher.publish(guard)
    fake_clock.advance(19.0)
    publisher.publish(guard)
    assert publisher.statistics().written == 1
    fake_clock.advance(2.0)
    publisher.publish(guard)
    assert publisher.statistics().written == 2


def test_a_full_disk_is_counted_and_tried_again_later(
    publisher: Publisher,
    home: Path,
    guard: MemoryGuard,
    fake_clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publisher.publish(guard)
    before = names(home)
    write = os.write

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(1000):  # sixteen minutes
        fake_clock.advance(1.0)
        publisher.publish(guard)
    monkeypatch.setattr(os, "write", write)
    failed = publisher.statistics()
    assert names(home) == before  # the last whole one, and nothing half-written
    assert 10 < failed.errors < 40
    assert failed.errors_by_kind == (("write: OSError", failed.errors),)
    fake_clock.advance(61.0)
    publisher.publish(guard)
    assert publisher.statistics().written == failed.written + 1


def test_a_directory_that_is_deleted_is_made_again(
    publisher: Publisher, home: Path, guard: MemoryGuard, fake_clock: FakeClock
) -> None:
    publisher.publish(guard)
    (name,) = names(home)
    (home / name).unlink()
    home.rmdir()
    fake_clock.advance(100.0)
    publisher.publish(guard)
    assert names(home) == [name]


def test_nothing_is_written_after_it_was_removed(
    publisher: Publisher, home: Path, guard: MemoryGuard, fake_clock: FakeClock
) -> None:
    publisher.publish(guard)
    publisher.stop()
    fake_clock.advance(100.0)
    publisher.publish(guard)
    assert names(home) == []
    publisher.open()
    publisher.publish(guard)
    assert len(names(home)) == 1


def test_files_of_the_dead_are_ignored_and_swept_those_of_the_living_are_not(
    publisher: Publisher, home: Path, guard: MemoryGuard
) -> None:
    publisher.publish(guard)
    (own,) = names(home)
    content = (home / own).read_bytes()
    publisher.stop()
    *_, mine, _ = own.split("-")
    dead = f"memguard-{2**22 + 7}-5-1.json"  # above the kernel's highest process number
    reused = f"memguard-{os.getpid()}-{int(mine) + 1}-9.json"
    others = {dead, f".{dead}.tmp", reused, f"memguard-{os.getpid()}-{mine}-77.json", "notes.txt"}
    for name in others:
        (home / name).write_bytes(content)
        os.utime(home / name, (0, 0))
    fresh = f"memguard-{2**22 + 8}-5-1.json"  # perhaps alive, in another container
    (home / fresh).write_bytes(content)
    guards = reader.look([home]).guards
    assert [one.file.name for one in guards] == [f"memguard-{os.getpid()}-{mine}-77.json"]
    publisher.open()
    publisher.publish(guard)
    left = set(names(home)) - {Path(publisher.statistics().file or "").name}
    assert left == {f"memguard-{os.getpid()}-{mine}-77.json", "notes.txt", fresh}


def test_files_of_the_host_that_look_almost_like_ours_are_left_alone(
    publisher: Publisher, home: Path, guard: MemoryGuard
) -> None:
    """A day is three numbers with hyphens between them, too."""
    home.mkdir(mode=0o700, exist_ok=True)
    theirs = {"2026-11-20.json", ".2026-11-20.json.tmp", "4194311-5-1.json", "memguard-1.json"}
    for name in theirs:
        (home / name).write_text("precious")
        os.utime(home / name, (0, 0))
    publisher.publish(guard)
    assert theirs < set(names(home))
    publisher.stop()
    assert set(names(home)) == theirs


# Where


def test_a_drive_that_is_not_there_is_not_searched_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows ``Z:/`` may be missing, and is its own parent."""
    asked: list[object] = []

    def missing(path: object) -> bool:
        asked.append(path)
        assert len(asked) < 100
        return False

    monkeypatch.setattr("os.path.lexists", missing)
    private_directory._make_private(tmp_path)
    assert tmp_path.is_dir()


@posix
def test_where_there_is_no_directory_for_temporary_files_the_guard_starts_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So it is in a container whose file system is read-only."""

    def none() -> str:
        raise FileNotFoundError("no usable temporary directory")

    monkeypatch.setattr("tempfile.gettempdir", none)
    assert directory_of({}, user=2**31).parent == Path("/tmp")  # noqa: S108 - reason: only compared
    monkeypatch.setattr(publishing, "directory_of", lambda _: Path("/proc/nowhere/memguard"))
    with MemoryGuard(leaks=False, relief=False, publish=True) as guard:
        publisher = Publisher(within=3.0)
        publisher.open()
        publisher.publish(guard)
    assert (publisher.statistics().written, publisher.statistics().errors) == (0, 1)
    assert reader.directories({}) != ()


@posix
def test_the_usual_directory_is_of_the_session_where_that_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = str(tmp_path)
    me = os.geteuid()
    assert directory_of({"XDG_RUNTIME_DIR": session}) == tmp_path / "memguard"
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/somewhere")
    for wrong in ("", "relative", f"{session}/missing", "\0"):
        found = directory_of({"XDG_RUNTIME_DIR": wrong}, user=2**31)
        assert found == Path(f"/somewhere/memguard-{2**31}")
    assert directory_of({"XDG_RUNTIME_DIR": session}, user=me + 1).parent != tmp_path


@posix
def test_a_place_that_others_made_is_not_used(
    home: Path, guard: MemoryGuard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else was faster to make the usual directory: a link, or a place to write to."""
    monkeypatch.setattr(publishing, "directory_of", lambda _: home)
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    home.symlink_to(target)
    usual = Publisher(within=3.0)
    usual.open()
    usual.publish(guard)
    assert names(target) == []
    assert usual.statistics().errors_by_kind == (("write: ConfigError", 1),)
    home.unlink()
    home.mkdir()
    home.chmod(0o777)
    usual.open()
    usual.publish(guard)
    assert (names(home), usual.statistics().errors) == ([], 2)
    assert reader.look([home]).guards == ()
    assert "others" in reader.look([home]).troubles[0]
    with pytest.raises(ConfigError, match="must not be writable by others"):
        Publisher(home, within=3.0)


@posix
def test_a_link_under_its_own_name_is_not_followed(
    publisher: Publisher, home: Path, guard: MemoryGuard, tmp_path: Path
) -> None:
    publisher.publish(guard)
    (name,) = names(home)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (home / f".{name}.tmp").symlink_to(victim)
    publisher.open()
    publisher.publish(guard)
    assert victim.read_text() == "precious"
    assert publisher.statistics().errors == 1
    (home / f"{name}").unlink()
    (home / f"{name}").symlink_to(victim)
    assert reader.look([home]).guards == ()


@posix
def test_a_pipe_and_a_giant_in_place_of_a_file_hold_nobody_up(
    publisher: Publisher, home: Path, guard: MemoryGuard
) -> None:
    publisher.publish(guard)
    (name,) = names(home)
    _, pid, start, _ = name.split("-")
    os.mkfifo(home / f"memguard-{pid}-{start}-800.json")
    with (home / f"memguard-{pid}-{start}-801.json").open("wb") as giant:
        giant.truncate(10**10)
    (home / f"memguard-{pid}-{start}-802.json").mkdir()
    (home / f"memguard-{pid}-{start}-803.json").write_bytes(b"\x1b[2J")
    found = reader.look([home])
    assert [one.file.name for one in found.guards] == [name]
    assert len(found.troubles) == 4
    assert not any("\x1b" in trouble for trouble in found.troubles)


def test_a_status_about_another_process_is_not_believed(
    publisher: Publisher, home: Path, guard: MemoryGuard
) -> None:
    publisher.publish(guard)
    (name,) = names(home)
    content = (
        (home / name)
        .read_bytes()
        .replace(f'"process_id": {os.getpid()}'.encode(), b'"process_id": 1')
    )
    (home / name).write_bytes(content)
    found = reader.look([home])
    assert found.guards == ()
    assert "it is about another process, 1" in found.troubles[0]


@posix
def test_the_superuser_believes_an_owner_only_about_his_own_processes(
    publisher: Publisher, home: Path, guard: MemoryGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(guard)
    monkeypatch.setattr(reader, "_trusted_owner", lambda _: 12345)
    monkeypatch.setattr(reader, "_content", lambda file, _: file.read_bytes())
    monkeypatch.setattr(identity, "owner", lambda _: 12345)
    assert len(reader.look([home]).guards) == 1
    monkeypatch.setattr(identity, "owner", lambda _: 777)
    assert "another user" in reader.look([home]).troubles[0]


@posix
def test_it_looks_in_each_place_where_a_guard_of_this_user_may_publish(tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir()
    environment = {"XDG_RUNTIME_DIR": str(session), "MEMGUARD_PUBLISH": str(tmp_path / "own")}
    places = reader.directories(environment)
    assert places[:2] == (tmp_path / "own", session / "memguard")
    assert reader.directories({"MEMGUARD_PUBLISH": "1"})[0] == directory_of({})
    assert reader.look([tmp_path / "missing"]) == reader.Found(())


def test_where_names_cannot_be_looked_up_from_a_descriptor_it_works_by_path(
    publisher: Publisher, home: Path, guard: MemoryGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_directory, "CAN_NAME_FROM_DIRECTORY", False)
    publisher.publish(guard)
    assert len(reader.look([home]).guards) == 1
    assert len(names(home)) == 1


# Whose


def test_a_process_is_known_by_when_it_was_started() -> None:
    mine = identity.started(os.getpid())
    assert mine == identity.started(os.getpid())
    assert mine
    assert identity.started(2**22 + 7) is None
    assert identity.started(10**12) is None


def test_a_name_with_parentheses_and_spaces_confuses_nobody(tmp_path: Path) -> None:
    fields = " ".join(str(n) for n in range(4, 53))
    stat_file = tmp_path / "42" / "stat"
    stat_file.parent.mkdir()
    stat_file.write_text(f"42 (a) b ( c)) S {fields}")
    assert identity.started(42, proc=str(tmp_path)) == 22
    stat_file.write_text(f"42 (a) b ( c)) Z {fields}")
    assert identity.started(42, proc=str(tmp_path)) is None  # it has ended


def test_without_proc_the_clock_tells(tmp_path: Path) -> None:
    assert (identity.started(os.getpid(), proc=str(tmp_path)) or 0) > 10**9


# The option of the guard


def test_a_guard_publishes_from_its_first_reading_until_it_is_stopped(home: Path) -> None:
    with MemoryGuard(leaks=False, publish=home) as running:
        deadline = time.monotonic() + 30
        while not reader.look([home]).guards and time.monotonic() < deadline:
            time.sleep(0.01)
        (one,) = reader.look([home]).guards
        assert one.status.health.watching
        statistics = running.status().publisher
        assert statistics is not None
        assert statistics.written >= 1
    assert names(home) == []


def test_a_guard_publishes_nothing_unless_told() -> None:
    assert MemoryGuard(leaks=False).status().publisher is None


@pytest.mark.parametrize(
    ("given", "error"), [(3, TypeError), (b"x", TypeError), ("", ConfigError), (None, TypeError)]
)
def test_a_wrong_place_is_refused_at_once(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="publish must"):
        MemoryGuard(leaks=False, publish=given)


def test_a_variable_asks_for_it() -> None:
    assert options_from({"MEMGUARD_PUBLISH": "1"}) == {"publish": True}
    assert options_from({"MEMGUARD_PUBLISH": "off"}) == {"publish": False}
    assert options_from({"MEMGUARD_PUBLISH": "/run/x"}) == {"publish": "/run/x"}


def test_what_a_process_runs_is_named_as_people_call_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for argv, name in (
        (["/srv/shop/app.py", "--secret"], "app.py"),
        (["/usr/lib/shop/__main__.py"], "-m shop"),
        ([""], "python"),
        ([], "python"),
    ):
        monkeypatch.setattr("sys.argv", argv)
        assert publishing.program() == name


def test_a_status_too_long_is_not_written(
    publisher: Publisher, home: Path, guard: MemoryGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_status, "MOST_BYTES", 100)
    publisher.publish(guard)
    assert publisher.statistics().errors_by_kind == (("write: ValueTooLargeError", 1),)
    assert names(home) == []
