from __future__ import annotations

import io
import json
import os
import platform
import re
import shlex
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import memguard
from memguard import cli
from memguard.cli import demo, main, top, version
from memguard.cli import report as reporting
from memguard.cli import run as running
from memguard.cli.run import MOST_REPORTS, Target, split, summary
from memguard.leaks.report import Frame, LeakReport
from memguard.report.render import render_html, render_json, render_text
from memguard.report.sinks.directory import ReportDirectory
from tests.specimens import MiB, leak_report


def store(directory: Path, report: LeakReport) -> str:
    file = directory / f"leak-{report.id}.json"
    file.write_text(render_json(report))
    return str(file)


def slower(**changes: object) -> LeakReport:
    full = leak_report(id="slower", **changes)
    return replace(full, trend=replace(full.trend, bytes_per_hour=1.0 * MiB))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of the command."""
    try:
        code = main(arguments)
    except SystemExit as error:
        code = int(error.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


# What is ours on the command line, and what is the program's


@pytest.mark.parametrize(
    ("arguments", "own", "target"),
    [
        (["app.py"], [], Target("app.py", ())),
        (["app.py", "-m", "x"], [], Target("app.py", ("-m", "x"))),
        (["--limit", "1m", "a", "--limit", "2"], ["--limit", "1m"], Target("a", ("--limit", "2"))),
        (["--limit=1m", "a", "--", "b"], ["--limit=1m"], Target("a", ("--", "b"))),
        (["-m", "pkg.mod", "-h"], [], Target("pkg.mod", ("-h",), is_module=True)),
        (["-mpkg", "x"], [], Target("pkg", ("x",), is_module=True)),
        (["--interval", "-m", "x"], ["--interval", "-m"], Target("x", ())),
        (["--", "-odd.py", "x"], [], Target("-odd.py", ("x",))),
        (["-h"], ["-h"], None),
        (["-m"], [], None),
        (["--interval"], ["--interval"], None),
        ([], [], None),
    ],
)
def test_the_first_word_that_is_no_option_begins_the_program(
    arguments: list[str], own: list[str], target: Target | None
) -> None:
    assert split(arguments) == (own, target)


def test_without_a_command_it_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, errors = run(capsys)
    assert (code, output) == (2, "")
    assert "memguard run app.py" in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("run", "--help"),
        ("report", "-h"),
        ("top", "-h"),
        ("demo", "-h"),
        ("version", "-h"),
    ],
)
def test_help_has_examples(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = run(capsys, *arguments)
    assert code == 0
    assert "examples:" in output
    assert "exit codes" in output


@pytest.mark.parametrize("arguments", [("version",), ("--version",)])
def test_the_version_names_python_as_well(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = run(capsys, *arguments)
    assert code == 0
    assert output.startswith("memguard ")
    assert "Python 3." in output


def test_a_script_gets_the_version_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, output, _ = run(capsys, "version", "--json")
    found = json.loads(output)
    assert code == 0
    assert found["memguard"] == memguard.__version__
    assert found["python"] == platform.python_version()


# Reports


def test_a_report_is_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = store(tmp_path, leak_report())
    assert run(capsys, "report", file) == (0, render_text(leak_report()), "")


def test_a_report_comes_back_as_the_json_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = store(tmp_path, leak_report())
    for wish in (["--format", "json"], ["--json"], ["--json", "--format", "json"]):
        _, output, _ = run(capsys, "report", file, *wish)
        assert output == Path(file).read_text()


def test_several_reports_are_shown_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [store(tmp_path, leak_report(id=name, detector=name)) for name in ("one", "two")]
    _, output, _ = run(capsys, "report", *files)
    assert (
        output.index("  one, process") < output.index("\u2500\u2500\u2500") < output.index("  two,")
    )
    _, output, _ = run(capsys, "report", "--format", "json", *files)
    assert [report["id"] for report in json.loads(output)] == ["one", "two"]
    _, output, _ = run(capsys, "report", "--format", "html", *files)
    assert output.count("<article") == 2


def test_a_directory_stands_for_its_reports_oldest_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "reports"
    directory = ReportDirectory(home)
    for age, name in enumerate(("z", "a", "m")):
        for file in directory.write(leak_report(id=name)):
            os.utime(file, (age, age))
    (home / "notes.json").write_text("{}")
    _, output, _ = run(capsys, "report", str(home), "--format", "json")
    assert [report["id"] for report in json.loads(output)] == ["z", "a", "m"]


def test_a_report_is_read_from_standard_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = io.BytesIO(Path(store(tmp_path, leak_report())).read_bytes())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    assert run(capsys, "report", "-")[:2] == (0, render_text(leak_report()))


@pytest.mark.parametrize(
    ("name", "start"),
    [("o.html", "<!DOCTYPE html>"), ("o.HTM", "<!DOCTYPE"), ("o.json", "{"), ("o.txt", "LEAK: ")],
)
def test_the_name_of_the_output_says_its_format(
    name: str, start: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = store(tmp_path, leak_report()), tmp_path / name
    assert run(capsys, "report", file, "-o", str(out)) == (0, "", "")
    assert out.read_text("utf-8").startswith(start)


def test_an_option_overrules_the_name_of_the_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = store(tmp_path, leak_report()), tmp_path / "o.txt"
    run(capsys, "report", file, "-o", str(out), "--format", "html")
    assert out.read_text("utf-8") == render_html(leak_report())


@pytest.mark.skipif(os.name != "posix", reason="mode bits are POSIX's")
def test_a_written_report_is_private(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "o.html"
    run(capsys, "report", store(tmp_path, leak_report()), "-o", str(out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not json", "a report must be JSON"),
        (b"\xff\xfe", "is not a report: 'utf-8' codec can't decode"),
        (b"[]", "schema_version must be"),
        (b'{"schema_version": 999}', "schema_version must be"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a report must be JSON"),
        (b"\x1b[2J", "a report must be JSON"),
    ],
)
def test_a_file_that_is_no_report_is_named_with_the_reason(
    content: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    code, output, errors = run(capsys, "report", str(file))
    assert (code, output) == (2, "")
    assert errors.startswith(f"memguard report: {file} is not a report: ")
    assert message in errors
    assert "\x1b" not in errors


def test_an_absurd_number_is_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = leak_report().to_dict()
    data["trend"]["current_bytes"] = 10**400
    file = tmp_path / "x.json"
    file.write_text(json.dumps(data))
    code, _, errors = run(capsys, "report", str(file), "--format", "html")
    assert code == 2
    assert "is not a report" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("report", "missing.json"), "memguard report: missing.json: No such file or directory\n"),
        (("report", "."), "there is no leak-*.json in ."),
        (("report",), "the following arguments are required: FILE"),
        (("report", "--compare", "one.json"), "--compare needs two files, OLD and NEW (got 1)"),
        (("report", "--form", "html", "x"), "unrecognized arguments: --form"),
        (("report", "x", "--format", "pdf"), "invalid choice: 'pdf'"),
        (("report", "x", "--format", "html", "--json"), "contradict each other; give one"),
        (("top", "shop"), "invalid int value: 'shop'"),
        (("top", "--interval", "0"), "--interval must be at least 0.1 seconds (got '0')"),
        (("top", "--interval", "soon"), "--interval must be a duration"),
        (("demo", "--timeout", "soon"), "--timeout must be a duration"),
        (("demo", "--output", "."), "File exists"),
        (("nonsense",), "invalid choice: 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_said_with_code_two(
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, errors = run(capsys, *arguments)
    assert (code, output) == (2, "")
    assert message in errors


def test_a_directory_with_two_reports_is_not_two_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = store(tmp_path, leak_report())
    store(tmp_path, slower())
    code, _, errors = run(capsys, "report", "--compare", str(tmp_path), file)
    assert code == 2
    assert "not directories" in errors


# Two reports compared


@pytest.mark.parametrize(
    ("form", "sign"),
    [("text", "BETTER: "), ("html", "<!DOCTYPE html>"), ("json", '{\n  "outcome": "better"')],
)
def test_two_reports_are_compared_in_every_format(
    form: str, sign: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = store(tmp_path, leak_report()), store(tmp_path, slower())
    code, output, _ = run(capsys, "report", "--compare", *files, "--format", form)
    assert code == 0
    assert output.startswith(sign)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--compare", "fast", "slow"), 0),
        (("--compare", "slow", "fast"), 1),
        (("--compare", "fast", "fast"), 0),
        (("fast",), 1),
        (("growth",), 0),
        (("growth", "slow"), 1),
    ],
)
def test_an_exit_code_tells_of_leaks_and_of_worse(
    arguments: tuple[str, ...], code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "fast": store(tmp_path, leak_report()),
        "slow": store(tmp_path, slower()),
        "growth": store(tmp_path, leak_report(id="growth", kind="growth")),
    }
    given = [files.get(argument, argument) for argument in arguments]
    assert run(capsys, "report", "--exit-code", *given)[0] == code
    assert run(capsys, "report", *given)[0] == 0


def test_a_terminal_of_few_letters_gets_escapes(tmp_path: Path) -> None:
    file = store(tmp_path, leak_report())
    done = subprocess.run(
        [sys.executable, "-m", "memguard", "report", file],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"\\u2190  app.py:31  checkout" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    many = [store(tmp_path, leak_report(id=f"r{n}")) for n in range(3)] * 40
    with subprocess.Popen(
        [sys.executable, "-m", "memguard", "report", *many],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


# The documents


def shown_commands() -> list[list[str]]:
    document = Path(__file__).parents[2] / "docs" / "command-line.md"
    lines = re.findall(r"^\$ .*?\bmemguard (.*)$", document.read_text("utf-8"), re.MULTILINE)
    for module in (cli, running, reporting, top, demo, version):
        lines += re.findall(r"^  memguard (.*?)(?:   .*)?$", module.EPILOG, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("arguments", shown_commands(), ids=" ".join)
def test_every_command_in_the_documents_is_understood(arguments: list[str]) -> None:
    parser, _ = cli._parsers()
    own = arguments
    if arguments[0] == "run":
        options, target = split(arguments[1:])
        assert target is not None
        own = ["run", *options]
    assert parser.parse_args(own).command == arguments[0]


# The summary after a run


def test_the_summary_counts_leaks_and_other_growth() -> None:
    reports = [leak_report(id="a"), leak_report(id="b", kind="growth", holders=(), suspects=())]
    lines = summary(reports, Path("out")).splitlines()
    assert lines == [
        "memguard: found 1 leak; growth that is not classified as one: 1",
        "  leak: leaky_shop.app.SESSIONS grows 1.9 MiB/min; live Python objects",
        "    held by       leaky_shop.app.SESSIONS : dict",
        "    allocated at  /srv/shop/leaky_shop/app.py:57  remember_session",
        f"    read          {Path('out') / 'leak-a.html'}",
        "  growth: memory grew 61.0 MiB: live Python objects",
        f"    read          {Path('out') / 'leak-b.html'}",
    ]


def test_what_grew_until_its_program_ended_is_no_leak() -> None:
    """A build grows until it is done: nothing of it is reached in 44 minutes."""
    ended = [running.as_ended(report) for report in (leak_report(id="a"), leak_report(id="b"))]
    lines = summary(ended, Path("out")).splitlines()
    assert lines[:3] == [
        "memguard: found no leak; growth that ended: 2",
        "  what grows until its program ends is a leak in one that is to run on",
        "  leaky_shop.app.SESSIONS grew 48.2 MiB, and has stopped; live Python objects",
    ]
    found = running.summary_data(ended, Path("/out"))
    assert (found["leaks"], found["ended"]) == (0, 2)
    text = render_text(ended[0])
    assert text.startswith("ENDED: leaky_shop.app.SESSIONS grew 48.2 MiB, and has stopped\n")
    assert "reached in" not in text


@pytest.mark.parametrize("state", ["ended", "retracted"])
def test_what_had_ended_before_its_program_stays_as_it_was(state: Any) -> None:
    report = leak_report(state=state)
    assert running.as_ended(report) is report


def test_the_summary_names_who_called_a_library_that_allocates() -> None:
    library = Frame(file="/lib/encoder.py", line=258, function="iterencode", in_user_code=False)
    mine = Frame(file="/srv/shop/labels.py", line=31, function="label", in_user_code=True)
    suspect = replace(
        leak_report().suspects[0],
        file=library.file,
        line=library.line,
        function=library.function,
        frames=(library, mine),
    )
    lines = summary([leak_report(suspects=(suspect,))], Path("out")).splitlines()
    assert lines[3:5] == [
        "    allocated at  /srv/shop/labels.py:31  label",
        "    calling       /lib/encoder.py:258  iterencode",
    ]


def test_the_summary_sends_nobody_to_a_file_that_is_not_there() -> None:
    reports = [leak_report(id="a"), leak_report(id="b")]
    text = summary(reports, Path("out"), missing={"a"})
    assert "leak-a.html" not in text
    assert text.count("its files are not there: not written, or deleted since") == 1
    assert text.splitlines()[-1].endswith("leak-b.html")


def test_a_script_gets_all_of_the_summary_as_data() -> None:
    reports = [leak_report(id=f"r{n}", kind="leak" if n else "growth") for n in range(20)]
    found = running.summary_data(reports, Path("/out"), missing={"r3"})
    assert json.loads(json.dumps(found)) == found
    assert (found["leaks"], len(found["reports"])) == (19, 20)
    last = found["reports"][-1]
    assert last["file"] == str(Path("/out") / "leak-r19.json")
    assert found["reports"][3]["file"] is None
    assert (last["holder"], last["holder_type"]) == ("leaky_shop.app.SESSIONS", "dict")
    assert (last["growth_bytes"], last["growth_bytes_per_hour"]) == (61 * MiB, 122.0 * MiB)
    assert last["allocated_at"] == "/srv/shop/leaky_shop/app.py:57  remember_session"


def test_growth_alone_is_not_called_a_leak() -> None:
    (first, *_) = summary([leak_report(kind="growth")], Path("out")).splitlines()
    assert first == "memguard: found no leak; growth that is not classified as one: 1"


def test_the_summary_is_short_however_much_was_found() -> None:
    reports = [leak_report(id=f"r{n}") for n in range(20)]
    lines = summary(reports, Path("out")).splitlines()
    assert lines[0] == "memguard: found 20 leaks"
    assert len(lines) == 1 + 4 * MOST_REPORTS
    assert lines[-1].endswith("leak-r19.html")
