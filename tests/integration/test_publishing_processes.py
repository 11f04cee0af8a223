"""Guards that publish in real processes: forked, exiting, killed, many at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from memguard.report.publish import reader

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(place: Path, program: str, *, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), str(place)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
    )
    assert done.returncode == code, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


BEGIN = """
    import os, sys, time, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # forks beside threads, on purpose
    import memguard
    place = sys.argv[1]

    def files(pid):
        return [name for name in os.listdir(place) if name.startswith(f"memguard-{pid}-")]

    def wait_for(condition):
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)

    options = dict(interval=0.05, leaks=False, publish=place)
"""


def test_who_forgets_to_stop_leaves_no_file(tmp_path: Path) -> None:
    place = tmp_path / "place"
    program = f"""{BEGIN}
    memguard.install(**options)
    wait_for(lambda: files(os.getpid()))
    print("seen")
    """
    assert run(place, program) == "seen"
    assert list(place.iterdir()) == []


@needs_fork
def test_a_forked_child_has_its_own_file_and_leaves_its_parents_alone(tmp_path: Path) -> None:
    program = f"""{BEGIN}
    guard = memguard.MemoryGuard(**options).start()
    parent = os.getpid()
    wait_for(lambda: files(parent))
    for restart in (False, True):
        child = os.fork()
        if child == 0:
            assert guard.status().publisher.file is None
            if restart:
                guard.start()
                wait_for(lambda: files(os.getpid()))
                assert guard.status().publisher.file.endswith(files(os.getpid())[0])
            sys.exit(0)  # with its exit handlers, as a worker of a server ends
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert len(files(parent)) == 1, os.listdir(place)
        assert files(child) == [], os.listdir(place)
    guard.close()
    print(os.listdir(place))
    """
    assert run(tmp_path / "place", program) == "[]"


@needs_fork
def test_forks_in_the_middle_of_a_write_hold_nobody_up(tmp_path: Path) -> None:
    program = f"""{BEGIN}
    import threading
    guard = memguard.MemoryGuard(**options).start()
    publisher, done = guard.publisher, threading.Event()

    def write():
        while not done.is_set():
            publisher._due = 0.0
            publisher.publish(guard)

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads: thread.start()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            publisher.open()
            publisher.publish(guard)
            publisher.stop()
            os._exit(0 if publisher.statistics().written == 1 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    done.set()
    for thread in threads: thread.join()
    assert publisher.statistics().errors == 0, publisher.statistics()
    guard.close()
    print(os.listdir(place))
    """
    assert run(tmp_path / "place", program) == "[]"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_who_was_killed_is_known_to_be_dead(tmp_path: Path) -> None:
    place = tmp_path / "place"
    program = f"""{BEGIN}
    import signal
    memguard.install(**options)
    wait_for(lambda: files(os.getpid()))
    os.kill(os.getpid(), signal.SIGKILL)
    """
    run(place, program, code=-9)
    assert len(list(place.iterdir())) == 1
    assert reader.look([place]) == reader.Found(())


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root becomes others"
)
def test_a_server_that_gives_up_root_goes_on_where_it_may() -> None:
    """The place is asked for at each write: that of root is closed to it from then on."""
    program = f"""{BEGIN}
    import tempfile
    tempfile.tempdir = place
    os.environ.pop("XDG_RUNTIME_DIR", None)
    os.chmod(place, 0o777)
    guard = memguard.MemoryGuard(**{{**options, "publish": True}}).start()
    wait_for(lambda: guard.status().publisher.file)
    # Else a write that is under way fails halfway, and is counted.
    guard.publisher._turn.wait(lambda: os.seteuid(54321))
    wait_for(lambda: os.path.isdir(f"{{place}}/memguard-54321"))
    wait_for(lambda: os.listdir(f"{{place}}/memguard-54321"))
    guard.close()
    print(os.listdir(f"{{place}}/memguard-54321"), guard.status().publisher.errors)
    """
    with tempfile.TemporaryDirectory() as place:  # unlike pytest's, below nobody's private one
        assert run(Path(place), program) == "[] 0"
