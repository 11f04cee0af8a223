"""``memguard run`` against ``python`` itself: the same output, traceback and exit code."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

from memguard.report.render.json import parse_json

WATCHED = ("-m", "memguard", "run")


def python(
    cwd: Path,
    *arguments: str,
    flags: tuple[str, ...] = (),
    stdin: str = "",
    environment: dict[str, str] | None = None,
) -> tuple[int, str, str]:
    """Return exit code, output and errors of the interpreter."""
    done = subprocess.run(
        [sys.executable, *flags, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(autouse=True)
def own_session(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs that end without cleaning up leave what they publish here."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("session")))


def write(directory: Path, name: str, source: str) -> Path:
    file = directory / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(textwrap.dedent(source), "utf-8")
    return file


SCRIPTS = {
    "what it is": """
        import sys
        import __main__
        print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__)
        print({name: globals()[name] for name in globals() if name == "__cached__"})
        print(type(__loader__).__name__, __doc__, __builtins__.__name__)
        print(__main__ is sys.modules["__main__"], vars(__main__) is globals())
        import neighbour
        print(neighbour.VALUE)
    """,
    "pickles of its own classes": """
        import pickle
        class Point:
            x = 1
        print(pickle.loads(pickle.dumps(Point())).x, Point.__module__)
    """,
    "annotations": """
        from __future__ import annotations
        x: int = 1
        print(__annotations__)
    """,
    "no __future__ of ours": "def f(x: int): ...\nprint(f.__annotations__)",
    "input": "print(input())",
    "exit code": "raise SystemExit(3)",
    "exit text": "import sys; sys.exit('a last word')",
    "exit nothing": "import sys; sys.exit()",
    "an exception": """
        def f():
            raise ValueError("no such thing")
        f()
    """,
    "chained exceptions": """
        def f():
            try:
                1 / 0
            except ZeroDivisionError as error:
                raise KeyError("x") from error
        try:
            f()
        except KeyError:
            raise RuntimeError("again")
    """,
    "a syntax error": "print('never')\ndef :\n",
    "a syntax error in what it imports": "import broken",
    "what it imports fails": "import failing",
    "an interrupt of its own": "raise KeyboardInterrupt",
    "its own hook": """
        import sys
        def hook(kind, value, traceback):
            print(kind, value, traceback.tb_frame.f_code.co_name, traceback.tb_lineno)
        sys.excepthook = hook
        raise OSError("x")
    """,
    "threads that go on": """
        import atexit, threading, time
        atexit.register(print, "end")
        done = threading.Event()
        def work():
            done.wait()
            time.sleep(0.2)
            print("worked", flush=True)
        threading.Thread(target=work).start()
        print("main is done", flush=True)
        done.set()
    """,
    "an exception in a thread": """
        import threading
        def work():
            raise ValueError("in a thread")
        thread = threading.Thread(target=work, name="worker")
        thread.start()
        thread.join()
    """,
    "processes that are spawned": """
        import multiprocessing
        def square(n):
            return n * n
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
    """,
    "exits without cleaning up": "import os; print('x', flush=True); os._exit(7)",
    "warnings": "import warnings; warnings.warn('old', DeprecationWarning)",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_as_python_runs_it(name: str, tmp_path: Path) -> None:
    write(tmp_path, "programs/app.py", SCRIPTS[name])
    write(tmp_path, "programs/neighbour.py", "VALUE = 42")
    write(tmp_path, "programs/broken.py", "x = (\n")
    write(tmp_path, "programs/failing.py", "raise LookupError('at import')\n")
    command = ("programs/app.py", "--interval", "a b", "-m", "--", "-x")
    expected = python(tmp_path, *command, stdin="line\n")
    assert python(tmp_path, *WATCHED, *command, stdin="line\n") == expected
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["programs"]


@pytest.mark.skipif(os.name != "posix", reason="there is no fork")
def test_a_forked_child_ends_as_it_would(tmp_path: Path) -> None:
    """Without the warning of Python 3.12: there is a second thread, and it is the detector's."""
    source = """
        import os, sys
        sys.stdout.flush()
        if os.fork() == 0:
            sys.exit(3)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    write(tmp_path, "app.py", source)
    flags = ("-W", "ignore::DeprecationWarning")
    assert python(tmp_path, *WATCHED, "app.py", flags=flags) == (0, "3\n", "")


def test_a_hook_of_the_program_that_fails_is_told_with_the_error(tmp_path: Path) -> None:
    source = "import sys\nsys.excepthook = lambda *a: 1 / 0\nraise OSError('x')\n"
    write(tmp_path, "app.py", source)
    code, output, errors = python(tmp_path, *WATCHED, "app.py")
    assert (code, output) == (1, "")
    assert errors.startswith("Error in sys.excepthook:\n")
    assert errors.endswith("line 3, in <module>\n    raise OSError('x')\nOSError: x\n")


MODULES = {
    "what it is": (
        "pkg.app",
        """
        import sys
        import __main__
        print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__.name)
        print(type(__loader__).__name__, __main__ is sys.modules["__main__"])
        from . import neighbour
        """,
    ),
    "a package": ("pkg", ""),
    "an exception": ("pkg.app", "def f():\n    raise ValueError('x')\nf()"),
    "a syntax error": ("pkg.app", "def :"),
    "exit code": ("pkg.app", "raise SystemExit(5)"),
    "a parent that fails": ("failing.app", ""),
    "a parent that misses a module": ("missing.app", ""),
}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_runs_as_python_runs_it(name: str, tmp_path: Path) -> None:
    """But for the frames of runpy in a traceback, which python shows and memguard does not."""
    module, source = MODULES[name]
    write(tmp_path, "pkg/__init__.py", "import sys; print('parent', sys.argv)")
    write(tmp_path, "pkg/__main__.py", "import sys; print(sys.argv, __package__, __name__)")
    write(tmp_path, "pkg/neighbour.py", "print('neighbour')")
    write(tmp_path, "pkg/app.py", source)
    write(tmp_path, "failing/__init__.py", "raise LookupError('at import')")
    write(tmp_path, "missing/__init__.py", "import no_such_module_anywhere")
    command = ("-m", module, "-m", "--limit", "x")
    code, output, errors = python(tmp_path, *command)
    watched = python(tmp_path, *WATCHED, *command)
    assert watched[:2] == (code, output)
    if name == "a parent that misses a module":  # python puts a sentence of its own around it
        errors = "ModuleNotFoundError: No module named 'no_such_module_anywhere'"
    assert watched[2].splitlines()[-1:] == errors.splitlines()[-1:]
    assert "runpy" not in watched[2]
    assert "memguard" not in watched[2]


def test_a_directory_and_a_zip_with_a_main_run_as_python_runs_them(tmp_path: Path) -> None:
    main = write(
        tmp_path, "app/__main__.py", "import sys, other; print(sys.argv, __name__, __file__)"
    )
    other = write(tmp_path, "app/other.py", "print('other')")
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.write(main, "__main__.py")
        archive.write(other, "other.py")
    for target in ("app", "app.pyz"):
        expected = python(tmp_path, target, "x")
        assert expected[0] == 0
        assert python(tmp_path, *WATCHED, target, "x") == expected


@pytest.mark.parametrize("flags", [("-I",), ("-W", "error"), ("-O",)])
def test_flags_of_the_interpreter_hold(flags: tuple[str, ...], tmp_path: Path) -> None:
    source = "import sys, warnings; print(sys.path, __debug__); warnings.warn('w')"
    write(tmp_path, "app.py", source)
    code, output, errors = python(tmp_path, "app.py", flags=flags)
    if flags == ("-I",):  # isolated from the environment, memguard may be out of reach
        probe = python(tmp_path, "-c", "import memguard", flags=flags)
        if probe[0]:
            pytest.skip("memguard is on PYTHONPATH only")
    assert python(tmp_path, *WATCHED, "app.py", flags=flags) == (code, output, errors)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_ends_it_as_it_ends_python(tmp_path: Path) -> None:
    source = """
        import signal, time
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner may ignore it
        try:
            print("ready", flush=True)
            time.sleep(30)
        finally:
            print("cleaned up", flush=True)
    """
    write(tmp_path, "app.py", source)
    results = []
    for command in (("app.py",), (*WATCHED, "app.py")):
        with subprocess.Popen(
            [sys.executable, *command],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=50)
        # Which of its lines was interrupted is chance; that no other file is shown is not.
        shown = {line.split('"')[1] for line in errors.splitlines() if line.startswith("  File ")}
        results.append((process.returncode, output, shown, errors.splitlines()[-1]))
    assert results[1] == results[0]
    assert results[0][::3] == (-signal.SIGINT, "KeyboardInterrupt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.py",), "there is no file 'nothing.py'"),
        (("-m", "no_such.module"), "there is no module 'no_such.module'"),
        (("-m", "empty"), "'empty' is a package without a __main__ module"),
        (("-m", ".x"), "'.x' is relative; write the full name of the module"),
        (("-m", "sys"), "has no code to run"),
        (("empty",), "there is no __main__ in 'empty'"),
        ((), "a script, or -m and a module, is required"),
        (("-m",), "a script, or -m and a module, is required"),
        (
            ("--interval", "0", "app.py"),
            "--interval must be from 0.01 to 86400 seconds (got '0')",
        ),
        (("--interval", "2d", "app.py"), "--interval must be from 0.01 to 86400 seconds"),
        (("--interval", "x", "app.py"), "--interval must be a duration >= 0 like"),
        (("--limit=-3", "app.py"), "--limit must be"),
        (("--min-growth-bytes", "1 potato", "app.py"), "--min-growth-bytes must be"),
        (("--report-dir", "app.py/x", "app.py"), "--report-dir app.py/x cannot be used: Not a dir"),
        (("--report-dir", "app.py", "app.py"), "must be a directory"),
        (("--wrong", "app.py"), "unrecognized arguments: --wrong"),
        (("--inter", "1", "app.py"), "unrecognized arguments: --inter"),
        (("--interval",), "expected one argument"),
    ],
)
def test_what_cannot_be_run_is_said_and_leaves_nothing(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    write(tmp_path, "app.py", "print('ran')")
    write(tmp_path, "empty/__init__.py", "")
    code, output, errors = python(tmp_path, *WATCHED, *arguments)
    assert (code, output) == (2, "")
    assert message in errors
    assert "Traceback" not in errors
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["app.py", "empty"]


LEAKY = """
    import glob, os, sys, time

    KEPT = []

    def remember(size):
        KEPT.append(bytearray(size))

    end = time.monotonic() + 40
    while time.monotonic() < end and not glob.glob("found/*.html"):
        remember(20_000)
        time.sleep(0.002)
    if hasattr(os, "fork"):
        if os.fork() == 0:
            sys.exit()  # a child has nothing to sum up
        os.wait()
    print("ended")
    sys.exit(4)
"""


def test_a_script_that_leaks_gets_a_report_that_names_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "leaky.py", LEAKY)
    line = file.read_text().splitlines().index("    KEPT.append(bytearray(size))") + 1
    options = ("--interval", "0.1", "--min-growth-bytes", "1MiB", "--report-dir", "found")
    code, output, errors = python(tmp_path, *WATCHED, *options, "leaky.py")
    assert (code, output) == (4, "ended\n")
    (stored,) = (tmp_path / "found").glob("leak-*.json")
    report = parse_json(stored.read_text())
    assert (report.kind, report.state) == ("growth", "ended")  # with its program
    assert report.holders[0].path == "__main__.KEPT"
    assert (report.suspects[0].file, report.suspects[0].line) == (str(file), line)
    assert report.suspects[0].function == "remember"
    stack = [(frame.file, frame.function) for frame in report.suspects[0].frames]
    assert stack == [(str(file), "remember"), (str(file), "<module>")]  # nothing of what started it
    summary = errors.splitlines()
    assert summary.count("memguard: found no leak; growth that ended: 1") == 1
    assert "held by       __main__.KEPT : list" in errors
    assert f"allocated at  leaky.py:{line}  remember" in errors
    page = Path(summary[-1].split()[-1])
    assert (tmp_path / page).read_text("utf-8").startswith("<!DOCTYPE html>")
    shown = python(tmp_path, "-m", "memguard", "report", "found", "--format", "json")
    assert json.loads(shown[1]) == report.to_dict()


SERVER = """
    import glob, json, os, signal, time

    KEPT, stopped = [], []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))

    def is_leaking():
        return any(json.load(open(file))["kind"] == "leak" for file in glob.glob("found/*.json"))

    end = time.monotonic() + 40
    while time.monotonic() < end and not stopped:
        KEPT.append(bytearray(20_000))
        time.sleep(0.002)
        if len(KEPT) % 100 == 0 and is_leaking():
            os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_server_that_is_asked_to_end_has_leaked_what_it_leaked(tmp_path: Path) -> None:
    write(tmp_path, "server.py", SERVER)
    options = ("--interval", "0.1", "--min-growth-bytes", "1MiB", "--report-dir", "found")
    code, output, errors = python(tmp_path, *WATCHED, *options, "--json", "server.py")
    assert (code, output) == (0, "")
    summary = json.loads(errors.splitlines()[-1])
    assert (summary["leaks"], summary["ended"]) == (1, 0)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_no_line_of_ours_is_in_the_traceback_of_a_handler(tmp_path: Path) -> None:
    source = """
        import os, signal
        def handler(number, frame):
            raise ValueError("asked to end")
        signal.signal(signal.SIGTERM, handler)
        os.kill(os.getpid(), signal.SIGTERM)
    """
    write(tmp_path, "app.py", source)
    assert python(tmp_path, *WATCHED, "app.py") == python(tmp_path, "app.py")


def test_a_script_gets_the_summary_as_json_even_if_nothing_was_found(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "import os; os.chdir('/'); print('ran')")
    nothing = {"leaks": 0, "ended": 0, "reports": []}
    code, output, errors = python(tmp_path, *WATCHED, "--json", "app.py")
    assert (code, output) == (0, "ran\n")
    assert json.loads(errors) == nothing
    code, output, errors = python(tmp_path, *WATCHED, "--json", "--summary", "found.json", "app.py")
    assert (code, output, errors) == (0, "ran\n", "")
    file = tmp_path / "found.json"
    assert json.loads(file.read_text()) == nothing
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    python(tmp_path, *WATCHED, "--summary", "found.txt", "app.py")
    assert (tmp_path / "found.txt").read_text() == "memguard: found no leak\n"


def test_a_summary_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "raise SystemExit(5)")
    found = python(tmp_path, *WATCHED, "--summary", "missing/found.txt", "app.py")
    assert found == (5, "", "")


PUBLISHING = """
    import os, sys, time
    end = time.monotonic() + 40
    place, start = sys.argv[1], f"memguard-{os.getpid()}-"
    def ours():  # not the file that is still being written
        names = os.listdir(place) if os.path.isdir(place) else []
        return [name for name in names if name.startswith(start) and name.endswith(".json")]
    while time.monotonic() < end and not ours():
        time.sleep(0.01)
    print(len(ours()))
"""


def test_it_publishes_while_the_program_runs_and_not_after(tmp_path: Path) -> None:
    write(tmp_path, "app.py", PUBLISHING)
    place = tmp_path / "published"
    environment = {"MEMGUARD_PUBLISH": str(place)}
    found = python(tmp_path, *WATCHED, "app.py", str(place), environment=environment)
    assert found == (0, "1\n", "")
    assert list(place.iterdir()) == []


WAITING = """
    import os, time
    place = os.path.join(os.environ["XDG_RUNTIME_DIR"], "memguard")
    end = time.monotonic() + (40 if os.environ["MEMGUARD_PUBLISH"] == "1" else 1)
    while time.monotonic() < end and not os.path.exists(place):
        time.sleep(0.01)
"""


@pytest.mark.parametrize("value", ["0", "1"])
def test_the_usual_place_is_used_unless_forbidden(value: str, tmp_path: Path) -> None:
    session = tmp_path / "session"
    session.mkdir(0o700)
    write(tmp_path, "app.py", WAITING)
    environment = {"MEMGUARD_PUBLISH": value, "XDG_RUNTIME_DIR": str(session)}
    assert python(tmp_path, *WATCHED, "app.py", environment=environment) == (0, "", "")
    if os.name == "posix":
        assert (session / "memguard").exists() == (value == "1")


def test_a_place_that_cannot_be_used_does_not_keep_the_program_from_running(
    tmp_path: Path,
) -> None:
    session = tmp_path / "session"
    session.mkdir(0o700)
    (session / "memguard").write_text("no directory")
    write(tmp_path, "app.py", "import time; time.sleep(0.5); print('ran')")
    environment = {"XDG_RUNTIME_DIR": str(session), "MEMGUARD_PUBLISH": ""}
    assert python(tmp_path, *WATCHED, "app.py", environment=environment) == (0, "ran\n", "")
    wrong = {"MEMGUARD_PUBLISH": str(session / "memguard")}  # asked for, so it is said
    code, output, errors = python(tmp_path, *WATCHED, "app.py", environment=wrong)
    assert (code, output) == (2, "")
    assert "must be a directory" in errors
