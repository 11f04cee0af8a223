"""The demo: its plants, its comparison, its drawing, and one short real run of the leaky shop."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import tracemalloc
import xml.etree.ElementTree as ET
from pathlib import Path

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.leaky_shop import __main__ as demo
from examples.leaky_shop import client, db, driver, expected, jobs, plot, repaired, verdict
from memguard.bounded.timers.threaded import TimerRegistry
from memguard.leaks.report import Frame, Holder, LeakReport, Suspect, TrendSummary, Verdict
from memguard.units import MiB
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
PLANTS = expected.planted()
SESSIONS, LISTENERS, JOBS = PLANTS
DEMO = [sys.executable, "-m", "examples.leaky_shop"]


def suspect(
    file: str, line: int, function: str | None, *, frames: tuple[Frame, ...] = ()
) -> Suspect:
    return Suspect(
        file=file,
        line=line,
        function=function,
        bytes=5 * MiB,
        count=250,
        bytes_per_minute=30.0 * MiB,
        frames=frames,
    )


def planted_suspect(plant: expected.Plant) -> Suspect:
    return suspect(f"/srv/leaky_shop/{plant.file}", plant.line, plant.function)


def holder(path: str, kind: str = "dict") -> Holder:
    return Holder(
        path=path,
        type=kind,
        entries=812,
        entries_added=800,
        entries_per_minute=1600.0,
        bytes_per_entry=20_000,
        bytes_added=16_000_000,
        bytes_per_minute=32_000_000.0,
    )


def report(*suspects: Suspect, holders: tuple[Holder, ...] = (), kind: str = "leak") -> LeakReport:
    whole = LeakReport(
        id="1",
        kind="leak",
        detector="main",
        pid=1,
        started_at="2026-11-20T00:00:00+00:00",
        updated_at="2026-11-20T00:00:00+00:00",
        revision=1,
        uptime_seconds=12.0,
        trend=TrendSummary(
            kind="leak",
            bytes_per_hour=60.0 * MiB,
            confidence=0.99,
            baseline_bytes=30 * MiB,
            current_bytes=50 * MiB,
            samples=40,
            span_seconds=10.0,
            limit_bytes=512 * MiB,
            limit_source="cgroup",
            seconds_to_limit=7500.0,
        ),
        verdict=Verdict(kind="live_objects", advice="look at the holders"),
        suspects=suspects,
        holders=holders,
    )
    return LeakReport.from_dict({**whole.to_dict(), "kind": kind})


def a_run(**changes: object) -> driver.Run:
    run = {
        "variant": "leaky",
        "curve": ((0.0, 30 * MiB), (33.0, 90 * MiB)),
        "reports": (report(),),
        "report_files": (Path("leak-1.json"), Path("leak-1.txt")),
        "open_files": (),
        "events": 1,
        "client": {"planned": 100, "sent": 100, "failed": 0},
        "statistics": {"errors_by_kind": []},
        "tracing_at_end": False,
        "log": Path("server.log"),
    }
    return driver.Run(**{**run, **changes})  # type: ignore[arg-type] # reason: one dict, many kinds


# --- what is planted -----------------------------------------------------------------------------


def test_each_plant_is_the_line_its_mark_is_on() -> None:
    assert [plant.key for plant in PLANTS] == ["sessions", "listeners", "jobs"]
    for plant in PLANTS:
        lines = (expected.SOURCES / plant.file).read_text(encoding="utf-8").splitlines()
        assert lines[plant.line - 1].endswith(f"# planted: {plant.key}")
        assert any(f"def {plant.function}(" in line for line in lines[: plant.line])


@pytest.mark.parametrize(
    ("old", "new"),
    [("# planted: jobs", "# mended"), ("SERVICE = ", "SERVICE = _ =  ")],
    ids=["no mark", "the mark moved out of its function"],
)
def test_a_plant_without_its_mark_is_refused(tmp_path: Path, old: str, new: str) -> None:
    for path in expected.SOURCES.glob("*.py"):
        shutil.copy(path, tmp_path)
    text = (tmp_path / "jobs.py").read_text(encoding="utf-8").replace(old, new)
    if "mended" not in new:
        text = text.replace("  # planted: jobs", "") + "X = 1  # planted: jobs\n"
    (tmp_path / "jobs.py").write_text(text, encoding="utf-8")
    with pytest.raises(LookupError, match=r"jobs"):
        expected.planted(tmp_path)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.key)
def test_the_planted_holder_is_there_by_its_path_and_type(plant: expected.Plant) -> None:
    package, module, *attributes = plant.holder.split(".")
    found = importlib.import_module(f"examples.{package}.{module}")
    assert type(functools.reduce(getattr, attributes, found)).__name__ == plant.holder_type


def test_a_planted_line_allocates_what_stays() -> None:
    rows = [db.ExportRow(n, "customer", "oak lamp", 2, 500) for n in range(500)]
    job = jobs.Job(1)
    tracemalloc.start()
    try:
        jobs.write_export(job, rows)
        statistics = tracemalloc.take_snapshot().statistics("lineno")
    finally:
        tracemalloc.stop()
    here = Path(jobs.__file__).name
    sizes = {
        entry.traceback[0].lineno: entry.size
        for entry in statistics
        if Path(entry.traceback[0].filename).name == here
    }
    assert job.csv is not None
    assert max(sizes, key=sizes.__getitem__) == JOBS.line
    assert sizes[JOBS.line] >= len(job.csv)


def test_an_order_of_the_repaired_shop_leaves_a_reminder_until_it_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no listener: those of a request end with its scope."""
    monkeypatch.setenv("SHOP_DATABASE", str(tmp_path / "shop.sqlite3"))
    db.create(tmp_path / "shop.sqlite3", seed=1)
    order = {"customer": 1, "lines": [{"product": 1, "pieces": 2}]}

    async def visit() -> None:
        app = repaired.app
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://shop") as shop,
        ):
            answers = [await shop.post("/orders", json=order) for _ in range(120)]
            assert (len(reminders), len(repaired.UNSHIPPED)) == (100, 100)
            await shop.post(f"/orders/{answers[-1].json()['order']}/ship")
            assert (len(reminders), len(repaired.UNSHIPPED)) == (99, 99)
            repaired.UNSHIPPED.clear()
            assert len(reminders) == 0

    repaired.UNSHIPPED.clear()
    with TimerRegistry() as reminders:
        monkeypatch.setattr(repaired, "REMINDERS", reminders)
        asyncio.run(visit())
    assert repaired.EVENTS.statistics().registered >= 120
    assert repaired.EVENTS.count() == 0


def test_the_repaired_service_forgets_the_oldest_finished_jobs() -> None:
    service = repaired.RepairedJobService()
    for number in range(250):
        service.keep(jobs.Job(number))
    assert len(service.ready) == 100
    assert service.find(0) is None
    assert service.find(249) is not None


# --- planted, found, where -----------------------------------------------------------------------


def test_a_leak_is_found_when_its_line_and_its_holder_are_named() -> None:
    found = verdict.compare(
        PLANTS,
        [report(planted_suspect(SESSIONS), holders=(holder("x.Y"), holder(SESSIONS.holder)))],
    )
    assert [finding.found for finding in found] == [True, False, False]
    assert (found[0].line_rank, found[0].holder_rank) == (1, 2)
    assert found[0].line.startswith(SESSIONS.where)
    assert found[0].holder == (
        "leaky_shop.app.SESSIONS  dict, +800 entries, +15.3 MiB, +30.5 MiB/min"
    )


def test_a_line_of_the_library_counts_when_the_planted_line_is_in_its_stack() -> None:
    frame = Frame(
        file=f"/srv/leaky_shop/{JOBS.file}", line=JOBS.line, function=f"Job.{JOBS.function}"
    )
    by_library = suspect("/usr/lib/python3.11/csv.py", 154, "writerow", frames=(frame,))
    (finding,) = verdict.compare([JOBS], [report(by_library)])
    assert finding.line_rank == 1
    assert finding.holder_rank is None
    assert not finding.found


@pytest.mark.parametrize(
    "near",
    [
        suspect(f"/srv/leaky_shop/{JOBS.file}", JOBS.line + 1, JOBS.function),
        suspect(f"/srv/leaky_shop/{JOBS.file}", JOBS.line, "another_function"),
        suspect(f"/srv/leaky_shop/{JOBS.file}", JOBS.line, None),
        suspect(f"/srv/other_shop/{JOBS.file}", JOBS.line, JOBS.function),
    ],
    ids=["next line", "other function", "no function", "other package"],
)
def test_a_near_miss_is_a_miss(near: Suspect) -> None:
    (finding,) = verdict.compare([JOBS], [report(near)])
    assert finding.line_rank is None


@pytest.mark.parametrize(
    "near", [holder(JOBS.holder, "dict"), holder(f"{JOBS.holder}[0]", "list")], ids=["type", "path"]
)
def test_a_holder_of_another_type_or_path_is_a_miss(near: Holder) -> None:
    (finding,) = verdict.compare([JOBS], [report(holders=(near,))])
    assert finding.holder_rank is None


def test_what_stands_too_far_down_or_in_no_leak_report_is_not_found() -> None:
    others = [suspect("/srv/x.py", n, "f") for n in range(verdict.RANKS)]
    far = report(*others, planted_suspect(JOBS))
    growth = report(planted_suspect(JOBS), kind="growth")
    (finding,) = verdict.compare([JOBS], [far, growth])
    assert finding.line_rank is None


def test_the_table_has_two_rows_for_each_plant_and_the_words_of_the_report() -> None:
    rows = verdict.table(verdict.compare(PLANTS, [report(planted_suspect(JOBS))]))
    text = verdict.render_table(rows)
    assert len(rows) == 1 + 2 * len(PLANTS)
    assert f"{JOBS.where}, +30.0 MiB/min" in text
    assert text.count("not among the holders") == 3


def test_a_report_in_one_line_tells_growth_rate_and_time_to_the_limit() -> None:
    assert verdict.summary_of(report()) == (
        "leak reported 12.0 s after the start: 30.0 MiB grew to 50.0 MiB, +1.0 MiB/min; "
        "2 h 5 min to the limit of 512.0 MiB (cgroup)"
    )


def test_all_claims_hold_for_a_run_that_bears_them_out() -> None:
    everything = report(
        *map(planted_suspect, PLANTS),
        holders=tuple(holder(plant.holder, plant.holder_type) for plant in PLANTS),
    )
    run = a_run(reports=(everything,))
    claims = verdict.claims_on_leaky(run, verdict.compare(PLANTS, run.reports))
    assert [claim.words for claim in claims if not claim.holds] == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reports": (), "events": 0}, "0 leak report(s)"),
        ({"events": 2}, "in 2 log event(s)"),
        ({"open_files": ("leak-1.json",)}, "owner: leak-1.json"),
        ({"report_files": ()}, "0 report files"),
        ({"client": {"planned": 9, "sent": 9, "failed": 1}}, "1 failed"),
        ({"client": {"planned": 9, "sent": 8, "failed": 0}}, "8 of 9"),
        (
            {"statistics": {"errors_by_kind": [["tick: OSError", 2]]}},
            "2 x tick: OSError errors inside",
        ),
        ({"tracing_at_end": True}, "tracing left on"),
    ],
)
def test_a_claim_that_is_not_borne_out_fails(changes: dict[str, object], words: str) -> None:
    claims = verdict.claims_on_leaky(a_run(**changes), ())
    assert [words in claim.words for claim in claims if not claim.holds][1:] == [True]
    assert claims[0].words == "0 of 0 planted leaks named, with line and holder"


def test_a_leak_report_on_the_repaired_shop_is_a_failure_and_a_growth_report_is_none() -> None:
    assert not verdict.claims_on_repaired(a_run())[0].holds
    assert verdict.claims_on_repaired(a_run(reports=(report(kind="growth"),)))[0].holds


# --- curves --------------------------------------------------------------------------------------


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_a_step_is_round_and_divides_the_span_in_a_few_parts(span: float) -> None:
    step = plot.nice_step(span)
    assert 2 <= span / step <= 5.001
    assert f"{step:e}"[0] in "125"


def test_the_drawing_is_one_well_formed_svg_with_a_line_for_each_curve() -> None:
    hostile = plot.Curve(
        name='<b>"&', points=((0.0, 30 * MiB), (9.0, 95 * MiB)), marks=((4.0, "<at 4 s>"),)
    )
    plain = plot.Curve(name="repaired", points=((0.0, 30 * MiB), (9.0, 40 * MiB)))
    drawing = ET.fromstring(plot.svg([hostile, plain]))  # noqa: S314 - reason: our own text
    lines = drawing.findall("{http://www.w3.org/2000/svg}polyline")
    words = [element.text for element in drawing.iter() if element.text]
    assert [line.get("class") for line in lines] == ['<b>"&', "repaired"]
    assert "<at 4 s>" in words
    assert "100" in words


def test_nothing_to_draw_is_said_so() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plot.svg([plot.Curve(name="leaky", points=())])


def test_the_page_shows_the_words_of_the_report_and_never_runs_them() -> None:
    page = plot.html("t", "<svg/>", [("a", "b", "c"), ("{0}", "<i>", "x")], ["<script>{1}"])
    assert "<td>{0}</td><td>&lt;i&gt;</td>" in page
    assert "&lt;script&gt;{1}" in page
    assert "<script>" not in page


@given(
    st.lists(st.floats(0, 1e9), max_size=200),
    st.integers(0, 80),
)
def test_a_sparkline_never_exceeds_its_width_nor_its_blocks(sizes: list[float], width: int) -> None:
    line = plot.sparkline(sizes, width=width, low=1e3, high=1e8)
    assert len(line) == min(width, len(sizes))
    assert set(line) <= set(plot.BLOCKS)


def test_a_sparkline_climbs_from_the_lowest_block_to_the_highest() -> None:
    assert plot.sparkline([0, 1, 2, 3, 4, 5, 6, 7], width=8, low=0, high=7) == plot.BLOCKS
    assert plot.sparkline([5, 5], width=8, low=5, high=5) == plot.BLOCKS[0] * 2


# --- processes -----------------------------------------------------------------------------------


def test_the_client_gives_up_on_a_closed_shop() -> None:
    with socket.socket() as closed:  # bound and not listening: nobody else gets this port
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        result = client.run(url, seconds=10, rate=1000, seed=1)
    assert result["sent"] == result["failed"] == client.FAILURES_IN_A_ROW


def test_a_server_that_cannot_start_ends_the_run_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(driver.APPLICATIONS, "leaky", "leaky_shop.nowhere:app")
    with pytest.raises(driver.RunError, match="nowhere"):
        driver.run("leaky", driver.Load(seconds=1), tmp_path / "leaky")


def test_a_server_that_eats_the_machine_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "CEILING_BYTES", MiB)
    with pytest.raises(driver.RunError, match="the server holds"):
        driver.run("leaky", driver.Load(seconds=5), tmp_path / "leaky")


def test_the_demo_does_not_remove_what_is_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = tmp_path / "leaky" / "diary.txt"
    precious.parent.mkdir()
    precious.write_text("dear diary", encoding="utf-8")
    assert demo.main(["--only", "leaky", "--out", str(tmp_path)]) == 2
    assert precious.exists()
    assert "name another --out" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process")
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [*DEMO, "--out", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        family: list[psutil.Process] = []

        def is_under_way() -> bool:
            """Return whether the server and its client, which comes after it, are there."""
            assert child.poll() is None
            family[:] = psutil.Process(child.pid).children(recursive=True)
            # Until it runs its own program, a child bears the name of its parent's.
            programs = [each.cmdline()[2:3] for each in family]
            return programs == [["leaky_shop.serve"], ["leaky_shop.client"]]

        wait_for(is_under_way)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    finally:
        child.kill()
        child.wait()
    assert child.returncode == 130
    assert b"interrupted" in errors
    assert not [process for process in family if process.is_running()]


@pytest.mark.timeout(150)
@pytest.mark.stress
def test_a_short_run_of_the_leaky_shop_names_every_planted_leak(tmp_path: Path) -> None:
    """The demo checks its claims itself; here they are checked once more, from its files."""
    short = ["--only", "leaky", "--seconds", "12", "--rate", "160", "--interval", "0.1"]
    done = subprocess.run(
        [*DEMO, *short, "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    reports = [
        LeakReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
        for path in (tmp_path / "leaky" / "reports").glob("*.json")
    ]
    assert [finding.found for finding in verdict.compare(PLANTS, reports)] == [True] * 3
    assert all(plant.where in done.stdout for plant in PLANTS)
    assert (tmp_path / "index.html").is_file()
