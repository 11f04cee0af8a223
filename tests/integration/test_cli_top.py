"""``memguard top`` beside real processes, and on a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memguard.cli import main
from tests.waiting import wait_for

posix = pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
SECONDS = 30

APP = """
    import sys, time
    import memguard
    cache = memguard.BoundedCache(10, name="its cache \\x1b[31m")
    cache["x"] = 1
    guard = memguard.MemoryGuard(
        interval=0.1, leaks=False, publish=sys.argv[1], name=sys.argv[2], limit="1TiB"
    ).start()
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "published"


class Apps:
    """Processes that publish."""

    def __init__(self, tmp_path: Path, place: Path) -> None:
        self._file = tmp_path / "app.py"
        self._file.write_text(textwrap.dedent(APP))
        self._place = place
        self.running: list[subprocess.Popen[str]] = []

    def start(self, name: str = "shop") -> int:
        process = subprocess.Popen(
            [sys.executable, str(self._file), str(self._place), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        wait_for(lambda: any(self._place.glob(f"memguard-{process.pid}-*.json")))
        return process.pid

    def end(self, pid: int) -> None:
        (process,) = (one for one in self.running if one.pid == pid)
        process.communicate("\n", timeout=SECONDS)

    def kill(self, pid: int) -> None:
        (process,) = (one for one in self.running if one.pid == pid)
        process.kill()
        process.wait(SECONDS)


@pytest.fixture
def apps(tmp_path: Path, place: Path) -> Iterator[Apps]:
    made = Apps(tmp_path, place)
    yield made
    for process in made.running:
        process.kill()
        process.communicate()


Top = Callable[..., tuple[int, str, str]]


@pytest.fixture
def top(place: Path, capsys: pytest.CaptureFixture[str]) -> Top:
    """Return the command, in this process: exit code, output, errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["top", "--directory", str(place), *arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def test_the_only_process_is_shown_once(apps: Apps, top: Top) -> None:
    pid = apps.start()
    code, output, errors = top("--once")
    assert (code, errors) == (0, "")
    assert output.startswith(f"app.py, process {pid}   guard shop")
    assert "its cache \\x1b[31m  BoundedCache" in output
    assert "\x1b" not in output


def test_a_terminal_of_few_letters_gets_a_picture_of_them(apps: Apps, place: Path) -> None:
    pid = apps.start()
    done = subprocess.run(
        [sys.executable, "-m", "memguard", "top", "--directory", place, "--once", str(pid)],
        capture_output=True,
        timeout=SECONDS,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert b"------" in done.stdout
    assert b"\\u" not in done.stdout


def test_a_script_gets_one_line_of_json(apps: Apps, top: Top) -> None:
    pid = apps.start()
    code, output, errors = top("--once", "--json")
    assert (code, errors, output.count("\n")) == (0, "", 1)
    found = json.loads(output)
    health = found["health"]
    assert (health["process_id"], health["guard"]) == (pid, "shop")
    assert health["containers"]["largest"][0]["items"] == 1
    assert 0 <= found["age_seconds"] < SECONDS


def test_of_several_processes_one_must_be_chosen(apps: Apps, top: Top) -> None:
    first, second = apps.start("one"), apps.start("two")
    code, output, errors = top("--once")
    assert (code, output) == (1, "")
    assert "several processes publish" in errors
    assert str(first) in errors
    assert str(second) in errors
    assert f"process {second} " in top("--once", str(second))[1]
    assert f"process {first} " in top("--once", "--name", "one")[1]
    code, output, errors = top("--list")
    assert (code, errors) == (0, "")
    assert [line.split()[0] for line in output.splitlines()] == [
        "PID",
        *map(str, sorted((first, second))),
    ]
    listed = json.loads(top("--list", "--json")[1])
    assert {one["health"]["guard"] for one in listed} == {"one", "two"}


def test_who_has_ended_or_was_killed_is_not_shown(apps: Apps, place: Path, top: Top) -> None:
    ended, killed = apps.start(), apps.start()
    apps.end(ended)
    apps.kill(killed)
    left = {file.name.split("-")[1] for file in place.iterdir()}  # it may have been writing
    assert left == {str(killed)}
    for arguments in (("--once",), ("--once", str(killed)), ("--once", str(ended)), ("--list",)):
        code, output, errors = top(*arguments)
        assert (code, output) == (1, "")
        assert errors.startswith("memguard top: ")
        assert "Traceback" not in errors
    assert top("--list", "--json") == (1, "[]\n", "")


def test_nobody_there_is_said_with_what_to_do(top: Top) -> None:
    code, output, errors = top()
    assert (code, output) == (1, "")
    assert "MEMGUARD_PUBLISH=1" in errors


@posix
def test_a_place_that_others_may_write_to_is_not_believed(
    apps: Apps, place: Path, top: Top
) -> None:
    apps.start()
    place.chmod(0o777)
    code, output, errors = top("--once")
    place.chmod(0o700)
    assert (code, output) == (1, "")
    assert "others" in errors


def test_into_a_pipe_it_goes_on_as_text_until_the_process_ends(apps: Apps, place: Path) -> None:
    pid = apps.start()
    command = [sys.executable, "-m", "memguard", "top", "--directory", str(place)]
    with subprocess.Popen(
        [*command, "--interval", "0.1", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = [json.loads(process.stdout.readline()) for _ in range(3)]
        apps.end(pid)
        _, errors = process.communicate(timeout=SECONDS)
    assert {line["health"]["process_id"] for line in lines} == {pid}
    assert process.returncode == 0
    assert f"process {pid} has no guard that publishes, or has ended" in errors


@posix
def test_a_reader_that_has_seen_enough_is_no_error(apps: Apps, place: Path) -> None:
    apps.start()
    command = [sys.executable, "-m", "memguard", "top", "--directory", str(place)]
    with subprocess.Popen(
        [*command, "--interval", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(SECONDS) == 0


# On a terminal


class Terminal:
    """A command on a pseudo-terminal: what it wrote, and what is on the screen now."""

    def __init__(self, *command: str, rows: int = 40, columns: int = 100) -> None:
        import pty  # noqa: PLC0415 - reason: there is none on Windows

        self._ours, theirs = pty.openpty()
        self.resize(rows, columns)
        self._theirs = theirs
        environment = {**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self.before = self.settings()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={name: value for name, value in environment.items() if name not in _MISLEADING},
            start_new_session=True,
        )
        os.set_blocking(self._ours, False)
        self.written = b""

    def settings(self) -> list[object]:
        import termios  # noqa: PLC0415 - reason: there is none on Windows

        return termios.tcgetattr(self._theirs)

    def resize(self, rows: int, columns: int) -> None:
        import fcntl  # noqa: PLC0415 - reason: there is none on Windows
        import struct  # noqa: PLC0415 - reason: beside it
        import termios  # noqa: PLC0415 - reason: there is none on Windows

        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def screen(self) -> list[str]:
        """Return the lines of the last picture: rich draws each from the upper left corner."""
        with contextlib.suppress(BlockingIOError, OSError):
            while True:
                self.written += os.read(self._ours, 65536)
        picture = self.written.rpartition(b"\x1b[H")[2].decode("utf-8", "replace")
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", picture).replace("\r", "").split("\n")

    def ends(self) -> int:
        """Return the exit code, having read whatever comes meanwhile."""
        wait_for(lambda: (self.screen(), self.process.poll() is not None)[1])
        self.screen()
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


_MISLEADING = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "CI")


@pytest.fixture
def view(apps: Apps, place: Path) -> Iterator[tuple[Terminal, int]]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
    pid = apps.start()
    made = Terminal(
        "-m", "memguard", "top", "--directory", str(place), "--interval", "0.2", str(pid)
    )
    signal.signal(signal.SIGINT, before)
    try:
        wait_for(lambda: any("q ends" in line for line in made.screen()))
        yield made, pid
    finally:
        made.close()


def assert_restored(terminal: Terminal) -> None:
    assert terminal.written.count(b"\x1b[?1049h") == terminal.written.count(b"\x1b[?1049l") == 1
    assert terminal.written.rindex(b"\x1b[?25h") > terminal.written.rindex(b"\x1b[?25l")
    assert terminal.settings() == terminal.before


@posix
def test_the_live_view_shows_the_process_and_ends_with_q(view: tuple[Terminal, int]) -> None:
    terminal, pid = view
    words = (f"app.py, process {pid}", "memory", "private", "its cache \\x1b[31m", "alerts")

    def is_whole() -> bool:
        """Return whether all is there; a picture may be half drawn."""
        text = "\n".join(terminal.screen())
        return all(word in text for word in words)

    wait_for(is_whole)
    pictures = terminal.written.count(b"\x1b[H")
    wait_for(lambda: (terminal.screen(), terminal.written.count(b"\x1b[H") > pictures + 2)[1])
    assert terminal.process.poll() is None
    terminal.press("q")
    assert terminal.ends() == 0
    assert_restored(terminal)
    assert b"Traceback" not in terminal.written


@posix
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_and_the_terminal_is_as_it_was(
    number: signal.Signals, code: int, view: tuple[Terminal, int]
) -> None:
    terminal, _ = view
    terminal.process.send_signal(number)
    assert terminal.ends() == code
    assert_restored(terminal)
    assert b"Traceback" not in terminal.written


@posix
def test_it_fits_a_terminal_that_changes_its_size(view: tuple[Terminal, int]) -> None:
    terminal, _ = view
    wait_for(lambda: max(map(len, terminal.screen())) == 100)
    for rows, columns in ((24, 60), (12, 30), (50, 150)):
        terminal.resize(rows, columns)

        def fits(rows: int = rows, columns: int = columns) -> bool:
            lines = terminal.screen()
            return max(map(len, lines)) == columns and len(lines) <= rows

        wait_for(fits)
    assert terminal.process.poll() is None


@posix
def test_it_says_so_when_the_process_ends(view: tuple[Terminal, int], apps: Apps) -> None:
    terminal, pid = view
    apps.kill(pid)
    assert terminal.ends() == 0
    assert_restored(terminal)
    assert f"process {pid} has no guard" in terminal.written.decode()


@posix
def test_a_process_that_is_suspended_has_no_news(view: tuple[Terminal, int], place: Path) -> None:
    terminal, pid = view
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)  # it may be in the midst of publishing: until it has stopped
    (file,) = place.glob(f"memguard-{pid}-*.json")
    old = json.loads(file.read_text())
    changed = file.with_name("changed")
    old["health"]["time_seconds"] -= 3600
    changed.write_text(json.dumps(old))
    changed.replace(file)
    wait_for(lambda: "no update for 1 h" in terminal.screen()[0])
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: "no update" not in terminal.screen()[0])


WITHOUT_RICH = """
    import sys
    sys.modules["rich"] = None  # as if it were not installed
    from memguard.cli import main
    sys.exit(main(["top", "--directory", *sys.argv[1:]]))
"""


@posix
def test_without_rich_one_sentence_says_what_to_install(
    apps: Apps, place: Path, tmp_path: Path
) -> None:
    apps.start()
    program = tmp_path / "without.py"
    program.write_text(textwrap.dedent(WITHOUT_RICH))
    terminal = Terminal(str(program), str(place), columns=300)
    try:
        assert terminal.ends() == 2
    finally:
        terminal.close()
    assert b"rich is not installed" in terminal.written
    assert b"pip install 'memguard-py[top]'" in terminal.written
    assert b"Traceback" not in terminal.written
    terminal = Terminal(str(program), str(place), "--once")
    try:
        assert terminal.ends() == 0
    finally:
        terminal.close()
    assert b"guard shop" in terminal.written
