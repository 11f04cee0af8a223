from __future__ import annotations

import gc
import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memguard.errors import ConfigError, ValueTooLargeError
from memguard.lifecycle import private_directory
from memguard.report.render import parse_json, render_html, render_text
from memguard.report.sinks.directory import ReportDirectory
from tests.specimens import leak_report

OPEN_FILES = Path("/proc/self/fd")
posix = pytest.mark.skipif(os.name != "posix", reason="mode bits and links are POSIX's")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory to be: its parent is there, and private enough."""
    return tmp_path / "reports"


def test_a_report_is_written_as_json_text_and_html(home: Path) -> None:
    report = leak_report()
    json_file, text_file, html_file = ReportDirectory(home).write(report)
    assert json_file == home / f"leak-{report.id}.json"
    assert text_file == home / f"leak-{report.id}.txt"
    assert html_file == home / f"leak-{report.id}.html"
    assert parse_json(json_file.read_text("ascii")) == report
    assert text_file.read_text("utf-8") == render_text(report)
    assert html_file.read_text("utf-8") == render_html(report)


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_everything_is_private_whatever_the_umask(home: Path, umask: int) -> None:
    found = os.umask(umask)
    try:
        files = ReportDirectory(home / "deep" / "down").write(leak_report())
    finally:
        os.umask(found)
    assert [mode(home), mode(home / "deep"), mode(home / "deep" / "down")] == [0o700] * 3
    assert [mode(file) for file in files] == [0o600] * 3


def test_a_leak_that_goes_on_updates_its_files(home: Path) -> None:
    directory = ReportDirectory(home)
    directory.write(leak_report(revision=1))
    json_file, *_ = directory.write(leak_report(revision=2))
    assert parse_json(json_file.read_text()).revision == 2
    assert len(names(home)) == 3
    assert directory.statistics().written == 2


def test_the_directory_stays_the_same_when_the_host_changes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    directory = ReportDirectory("reports")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    directory.write(leak_report())
    assert len(names(tmp_path / "reports")) == 3
    assert directory.path == tmp_path / "reports"
    assert repr(directory) == f"ReportDirectory({str(tmp_path / 'reports')!r})"


def test_a_directory_that_was_deleted_is_made_again(home: Path) -> None:
    directory = ReportDirectory(home)
    home.rmdir()
    directory.write(leak_report())
    assert len(names(home)) == 3


# What it refuses at construction


@posix
def test_a_symbolic_link_is_refused(home: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(0o700)
    home.symlink_to(target)
    with pytest.raises(ConfigError, match="must not be a symbolic link; give the directory it"):
        ReportDirectory(home)


@posix
def test_a_link_that_leads_nowhere_is_refused(home: Path, tmp_path: Path) -> None:
    home.symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="must not be a symbolic link"):
        ReportDirectory(home)


@posix
@pytest.mark.parametrize("others", [0o720, 0o702, 0o777, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(home: Path, others: int) -> None:
    home.mkdir()
    home.chmod(others)
    with pytest.raises(ConfigError, match=rf"writable by others \(its mode is {others:04o}\); do"):
        ReportDirectory(home)


@posix
def test_a_directory_that_others_may_read_is_taken_as_it_is(home: Path) -> None:
    home.mkdir()
    home.chmod(0o755)
    file, *_ = ReportDirectory(home).write(leak_report())
    assert mode(home) == 0o755
    assert mode(file) == 0o600


@posix
def test_a_directory_of_another_user_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(home, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ConfigError, match="must belong to the user of this process"):
        ReportDirectory(home)


def test_a_file_is_refused(home: Path) -> None:
    home.write_text("")
    with pytest.raises(ConfigError, match="must be a directory; it is another kind of file"):
        ReportDirectory(home)


def test_a_directory_that_cannot_be_created_says_so_at_once(home: Path) -> None:
    home.write_text("")
    with pytest.raises(NotADirectoryError):
        ReportDirectory(home / "below" / "a-file")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"path": 7}, TypeError, r"path must be a string or a Path \(got int\)"),
        ({"path": b"bytes"}, TypeError, r"path must be a string or a Path \(got bytes\)"),
        ({"path": ""}, ConfigError, r"path must not be empty \(got ''\); .* write '\.'"),
        ({"max_files": 2}, ConfigError, r"max_files must be >= 3 \(got 2\)"),
        ({"max_files": True}, TypeError, r"max_files must be an int \(got bool\)"),
        ({"max_files": 3.0}, TypeError, r"max_files must be an int \(got float\)"),
        ({"max_bytes": "511KiB"}, ConfigError, r"max_bytes must be >= 512 KiB, .*'511KiB'\)"),
        ({"max_bytes": -1}, ConfigError, r"max_bytes must be 0 to .* \(got -1\)"),
        ({"max_bytes": None}, TypeError, r"max_bytes must be a number of bytes or a string"),
    ],
)
def test_a_wrong_option_is_refused_and_creates_nothing(
    home: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ReportDirectory(**{"path": home, **options})
    assert not home.exists()


@pytest.mark.parametrize(
    "report_id", ["", "../evil", "a/b", ".hidden", "a\0b", "-rf", "a" * 101, "caf\u00e9", "a\n"]
)
def test_an_id_that_is_no_plain_file_name_is_refused(home: Path, report_id: str) -> None:
    directory = ReportDirectory(home)
    with pytest.raises(ConfigError, match="a report's id must be 1 to 100 letters"):
        directory.write(leak_report(id=report_id))
    assert names(home) == []
    assert directory.statistics().failed == 1


# Links and strangers' files inside


@posix
def test_a_link_in_place_of_a_report_is_replaced_and_not_followed(
    home: Path, tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    directory = ReportDirectory(home)
    report = leak_report()
    (home / f"leak-{report.id}.json").symlink_to(victim)
    json_file, *_ = directory.write(report)
    assert victim.read_text() == "precious"
    assert not json_file.is_symlink()
    assert parse_json(json_file.read_text()) == report


@posix
def test_a_path_swapped_for_a_link_later_is_refused(home: Path, tmp_path: Path) -> None:
    directory = ReportDirectory(home)
    home.rename(tmp_path / "moved")
    home.symlink_to(tmp_path / "moved")
    with pytest.raises(ConfigError, match="must not be a symbolic link"):
        directory.write(leak_report())
    assert names(tmp_path / "moved") == []


@posix
def test_a_path_swapped_between_the_check_and_the_write_is_not_followed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second check is on the open directory, and opening does not follow a link."""
    directory = ReportDirectory(home)
    target = tmp_path / "target"
    target.mkdir(0o700)
    check = private_directory.check_private

    def checked_then_swapped(path: Path, found: os.stat_result) -> None:
        check(path, found)
        if not path.is_symlink():
            path.rename(tmp_path / "moved")
            path.symlink_to(target)

    monkeypatch.setattr(private_directory, "check_private", checked_then_swapped)
    with pytest.raises(OSError, match=r"symbolic link|Not a directory"):
        directory.write(leak_report())
    assert names(target) == []


def test_files_of_others_are_not_touched_and_not_counted(home: Path) -> None:
    directory = ReportDirectory(home, max_files=3)
    (home / "notes.txt").write_text("mine")
    (home / "leak-notes.md").write_text("mine")
    (home / "leak-directory.json").mkdir()
    for n in range(3):
        directory.write(leak_report(id=f"r{n}"))
    reports = ["leak-r2.html", "leak-r2.json", "leak-r2.txt"]
    assert names(home) == ["leak-directory.json", "leak-notes.md", *reports, "notes.txt"]


# Bounds


def write_in_order(directory: ReportDirectory, count: int) -> None:
    for n in range(count):
        for file in directory.write(leak_report(id=f"r{n}")):
            os.utime(file, (n, n))


def test_the_oldest_reports_go_when_there_are_too_many_files(home: Path) -> None:
    directory = ReportDirectory(home, max_files=9)
    write_in_order(directory, 5)
    endings = ("html", "json", "txt")
    assert names(home) == [f"leak-r{n}.{ending}" for n in (2, 3, 4) for ending in endings]
    assert directory.statistics().dropped_files == 6


def test_a_report_of_before_html_counts_and_goes_with_its_files(home: Path) -> None:
    """A directory may hold reports of an older memguard, each of two files."""
    directory = ReportDirectory(home, max_files=5)
    for ending in ("json", "txt"):
        file = home / f"leak-old.{ending}"
        file.write_text("{}")
        os.utime(file, (1, 1))
    directory.write(leak_report(id="new"))
    assert len(names(home)) == 5
    directory.write(leak_report(id="newer"))
    assert names(home) == [f"leak-newer.{ending}" for ending in ("html", "json", "txt")]


def test_the_oldest_reports_go_when_there_are_too_many_bytes(home: Path) -> None:
    long = ("why" * 600,) * 60
    directory = ReportDirectory(home, max_bytes="512KiB")
    for n in range(6):
        for file in directory.write(leak_report(id=f"r{n}", limits=long)):
            os.utime(file, (n, n))
        assert sum(file.stat().st_size for file in home.iterdir()) <= 512 * 1024
    kept = sorted({name.split(".")[0] for name in names(home)})
    assert kept in (["leak-r5"], ["leak-r4", "leak-r5"])
    statistics = directory.statistics()
    assert statistics.dropped_files == 18 - 3 * len(kept)
    assert statistics.dropped_bytes > 0


def test_a_report_that_is_updated_is_young_again(home: Path) -> None:
    directory = ReportDirectory(home, max_files=6)
    write_in_order(directory, 2)
    directory.write(leak_report(id="r0", revision=2))
    directory.write(leak_report(id="r9"))
    assert {name.split(".")[0] for name in names(home)} == {"leak-r0", "leak-r9"}


def test_updating_a_report_drops_no_other(home: Path) -> None:
    directory = ReportDirectory(home, max_files=6)
    write_in_order(directory, 2)
    for revision in range(2, 5):
        directory.write(leak_report(id="r1", revision=revision))
    assert len(names(home)) == 6
    assert directory.statistics().dropped_files == 0


def test_a_report_larger_than_the_bound_is_refused_and_drops_nothing(home: Path) -> None:
    directory = ReportDirectory(home, max_bytes="512KiB")
    directory.write(leak_report(id="small"))
    with pytest.raises(ValueTooLargeError, match="all reports may have 524288; raise max_bytes"):
        directory.write(leak_report(id="large", limits=("x" * 530_000,)))
    assert names(home) == ["leak-small.html", "leak-small.json", "leak-small.txt"]


def test_the_fullest_report_of_a_detector_fits_the_smallest_directory(home: Path) -> None:
    """Ten suspects with the deepest stacks and ten holders, all with long names."""
    full = leak_report()
    file = "/srv/" + "directory/" * 5 + "module.py"
    frame = replace(full.suspects[0].frames[0], file=file)
    suspects = tuple(
        replace(full.suspects[0], file=file, line=n, frames=(frame,) * 64) for n in range(10)
    )
    holders = tuple(replace(full.holders[0], path=f"module{n}." * 10) for n in range(10))
    directory = ReportDirectory(home, max_bytes="512KiB")
    directory.write(replace(full, suspects=suspects, holders=holders))
    assert directory.statistics().written == 1


# Half-written files


def leftover(home: Path, pid: int, age_seconds: float) -> Path:
    file = home / f".leak-{pid}-{'0' * 16}.tmp"
    file.write_text("half a rep")
    then = time.time() - age_seconds
    os.utime(file, (then, then))
    return file


DEAD_PID = 2**31 - 1  # above any pid_max


@pytest.mark.parametrize(
    ("pid", "age_seconds", "removed"),
    [
        pytest.param(DEAD_PID, 90, True, marks=posix),
        (DEAD_PID, 5, False),  # perhaps of a living writer in another container
        (os.getpid(), 90, False),
        (os.getpid(), 4000, True),
    ],
    ids=["dead, old", "dead, young", "alive, young", "alive, old"],
)
def test_what_a_dead_writer_left_is_removed(
    home: Path,
    pid: int,
    age_seconds: float,
    removed: bool,  # noqa: FBT001 - reason: a table's column
) -> None:
    directory = ReportDirectory(home)
    file = leftover(home, pid, age_seconds)
    directory.write(leak_report())
    assert file.exists() is not removed
    assert directory.statistics().removed_leftovers == int(removed)


@posix
def test_what_a_dead_writer_left_is_removed_at_construction(home: Path) -> None:
    home.mkdir(0o700)
    leftover(home, DEAD_PID, 90)
    assert ReportDirectory(home).statistics().removed_leftovers == 1
    assert names(home) == []


def test_a_disk_that_fills_up_leaves_the_old_report_and_no_rest(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real limit of the kernel does the same in the integration tests."""
    directory = ReportDirectory(home)
    report = leak_report()
    directory.write(report)

    def full(_descriptor: int, _content: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            directory.write(replace(report, revision=99))
    assert parse_json((home / f"leak-{report.id}.json").read_text()) == report
    assert len(names(home)) == 3
    assert directory.statistics().failed == 1
    directory.write(replace(report, revision=100))  # and it works again when there is space


def test_a_write_in_small_pieces_is_still_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal or a pipe-like file system may take less than it was given."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, bytes(content[:7])))
    report = leak_report()
    json_file, *_ = ReportDirectory(home).write(report)
    assert parse_json(json_file.read_text()) == report


def test_a_file_system_that_cannot_sync_a_directory_is_good_enough(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    assert len(ReportDirectory(home).write(leak_report())) == 3


def test_it_works_where_names_cannot_be_looked_up_from_a_descriptor(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows; the same steps with whole paths."""
    monkeypatch.setattr(private_directory, "CAN_NAME_FROM_DIRECTORY", False)
    directory = ReportDirectory(home, max_files=3)
    for n in range(3):
        directory.write(leak_report(id=f"r{n}"))
    assert names(home) == ["leak-r2.html", "leak-r2.json", "leak-r2.txt"]


# Threads


def test_threads_may_write_into_one_directory_at_once(home: Path) -> None:
    directory = ReportDirectory(home, max_files=20)
    failures: list[BaseException] = []

    def write(thread: int) -> None:
        try:
            for n in range(10):
                directory.write(leak_report(id=f"t{thread}-{n % 3}", revision=n + 1))
        except BaseException as error:  # noqa: BLE001 - reason: shown by the assertion below
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert len(names(home)) <= 20
    assert directory.statistics().written == 40
    assert directory.statistics().failed == 0
    for file in home.glob("*.json"):
        parse_json(file.read_text())


@pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="asks /proc for the open files")
def test_no_file_stays_open(home: Path) -> None:
    gc.collect()  # files that earlier tests left in cycles are not to be closed meanwhile
    before = len(names(OPEN_FILES))
    directory = ReportDirectory(home)
    directory.write(leak_report())
    with pytest.raises(ConfigError):
        directory.write(leak_report(id="../x"))
    assert len(names(OPEN_FILES)) == before
