"""Reports on disk under real trouble: killed writers, forks, full disks, several processes."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from memguard.report.render.json import parse_json
from memguard.report.sinks.directory import ReportDirectory
from tests.specimens import leak_report
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, forks and limits of POSIX")

ROOT = Path(__file__).parents[2]

# Each revision carries 200 KiB of text of its own and the checksum of that text.
WRITER = """
import hashlib, sys
from memguard.report.sinks.directory import ReportDirectory
from tests.specimens import leak_report

directory = ReportDirectory(sys.argv[1])
print("ready", flush=True)
revision = 0
while True:
    revision += 1
    body = hashlib.sha256(str(revision).encode()).hexdigest() * 3200
    checksum = hashlib.sha256(body.encode()).hexdigest()
    directory.write(
        leak_report(id="crash", revision=revision, limits=(body,), python=checksum)
    )
"""


def is_writing(home: Path, pid: int) -> bool:
    return any(home.glob(f".leak-{pid}-*.tmp"))


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(180)  # many processes, on a machine that may be busy
@pytest.mark.stress
def test_a_writer_killed_at_any_moment_leaves_a_whole_report(tmp_path: Path) -> None:
    """The file is the old one or the new one; half a one would not have its own checksum."""
    home = tmp_path / "reports"
    when = random.Random(20261120)  # noqa: S311 - reason: moments to kill at, no secret
    killed_within_a_write = 0
    for turn in range(25):
        with start(WRITER, home) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            if turn == 0:
                wait_for((home / "leak-crash.json").exists)
            elif turn % 3 == 0:  # while it writes, however slow this machine is
                wait_for(functools.partial(is_writing, home, writer.pid), pause=0.0)
            else:
                time.sleep(when.uniform(0.0, 0.06))  # real time: the kernel is what is tested
            writer.send_signal(signal.SIGKILL)
            writer.wait(10)
        killed_within_a_write += any(file.suffix == ".tmp" for file in home.iterdir())
        for file in home.glob("leak-crash.json"):
            report = parse_json(file.read_text("ascii"))
            assert hashlib.sha256(report.limits[0].encode()).hexdigest() == report.python
        for file in home.glob("leak-crash.txt"):
            last_line = file.read_text("utf-8").splitlines()[-1]
            assert last_line.startswith("      tracer at most")
    assert (home / "leak-crash.json").exists()
    assert killed_within_a_write, "no kill hit a write; the test has shown nothing"


@pytest.mark.timeout(180)
def test_what_killed_writers_left_is_cleaned_up_by_the_next_one(tmp_path: Path) -> None:
    home = tmp_path / "reports"
    directory = ReportDirectory(home)
    for _ in range(60):
        with start(WRITER, home) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not list(home.glob(".leak-*.tmp")):
                pass
            writer.kill()
            writer.wait(10)
        if list(home.glob(".leak-*.tmp")):
            break
    left = list(home.glob(".leak-*.tmp"))
    assert left
    a_while_ago = time.time() - 61
    for file in left:
        os.utime(file, (a_while_ago, a_while_ago))
    directory.write(leak_report(id="next"))
    assert list(home.glob(".leak-*.tmp")) == []
    assert directory.statistics().removed_leftovers == len(left)


FULL = """
import resource, sys
from memguard.report.sinks.directory import ReportDirectory
from tests.specimens import leak_report

directory = ReportDirectory(sys.argv[1])
directory.write(leak_report(id="r"))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    directory.write(leak_report(id="r", revision=2, limits=("x" * 30_000,)))
except OSError as error:
    print(type(error).__name__, error.errno, directory.statistics().failed)
"""


def test_a_file_that_may_not_grow_is_an_error_and_the_old_report_stays(tmp_path: Path) -> None:
    home = tmp_path / "reports"
    with start(FULL, home) as writer:
        out, err = writer.communicate(timeout=30)
    assert (out, err) == ("OSError 27 1\n", "")  # EFBIG, as the kernel says it
    assert sorted(file.name for file in home.iterdir()) == [
        "leak-r.html",
        "leak-r.json",
        "leak-r.txt",
    ]
    assert parse_json((home / "leak-r.json").read_text()) == leak_report(id="r")


def test_a_child_forked_in_the_middle_of_a_write_can_write(tmp_path: Path) -> None:
    """The mutex it inherits may be held by a thread that it does not have."""
    program = """
import os, sys, threading, warnings
from memguard.report import sinks
from tests.specimens import leak_report

warnings.simplefilter("ignore")  # forking with threads is what is tested
directory = sinks.ReportDirectory(sys.argv[1])
inside, finish = threading.Event(), threading.Event()

def hold():
    with directory._mutex:
        inside.set()
        finish.wait(20)

thread = threading.Thread(target=hold)
thread.start()
inside.wait(20)
pid = os.fork()
if pid == 0:
    directory.write(leak_report(id="child"))
    os._exit(0)
_, status = os.waitpid(pid, 0)
finish.set()
thread.join()
directory.write(leak_report(id="parent"))
print(os.waitstatus_to_exitcode(status), directory.statistics().written)
"""
    with start(program, tmp_path / "reports") as parent:
        out, err = parent.communicate(timeout=30)
    assert (out, err) == ("0 1\n", "")
    names = {file.stem for file in (tmp_path / "reports").iterdir()}
    assert names == {"leak-child", "leak-parent"}


def test_processes_that_share_a_directory_keep_its_bound(tmp_path: Path) -> None:
    program = """
import os, sys
from memguard.report.sinks.directory import ReportDirectory
from tests.specimens import leak_report
directory = ReportDirectory(sys.argv[1], max_files=6)
for n in range(15):
    directory.write(leak_report(id=f"p{os.getpid()}-{n}"))
print(directory.statistics().written)
"""
    home = tmp_path / "reports"
    writers = [start(program, home) for _ in range(3)]
    for writer in writers:
        with writer:
            assert writer.communicate(timeout=30) == ("15\n", "")
    ReportDirectory(home, max_files=6).write(leak_report(id="last"))
    assert len(list(home.iterdir())) <= 6
    for file in home.glob("*.json"):
        parse_json(file.read_text())


@pytest.mark.stress
def test_a_reader_never_sees_half_a_report(tmp_path: Path) -> None:
    home = tmp_path / "reports"
    directory = ReportDirectory(home)
    directory.write(leak_report(id="r"))
    finish = threading.Event()
    seen: list[int] = []
    failures: list[Exception] = []

    def read() -> None:
        try:
            while not finish.is_set():
                seen.append(parse_json((home / "leak-r.json").read_text()).revision)
        except Exception as error:  # noqa: BLE001 - reason: shown by the assertion below
            failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_for(lambda: seen or failures)
        for revision in range(60):
            directory.write(leak_report(id="r", revision=revision, limits=("x" * 50_000,)))
        wait_for(lambda: (seen and seen[-1] == 59) or failures)
    finally:
        finish.set()
        reader.join(20)
    assert failures == []
    assert len(set(seen)) > 1
