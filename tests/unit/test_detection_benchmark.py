"""The table of the detection benchmark, from stored rows."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import detection, detection_pairs, detection_peers, record


def row(case: str, kind: str, *, alarm: bool, **more: object) -> detection.Row:
    return {"case": case, "kind": kind, "alarm": alarm, "step_p50_us": 20.0, **more}


ROWS = [
    row("a", "leak", alarm=True, site5=True, retainer_hit=True, verdict="live_objects"),
    row("b", "leak", alarm=False, site5=False, retainer_hit=None),
    row("c", "native_leak", alarm=True, site5=False, retainer_hit=None, verdict="native"),
    row("d", "healthy", alarm=False),
    row("e", "bloat", alarm=True),
    row("f", "fragmentation", alarm=True),
    {"case": "g", "kind": "leak", "alarm": None, "error": "no such Python"},
]
BARE = {name: {"step_p50_us": 10.0} for name in "abcde"}


def test_each_line_counts_the_cases_that_it_is_about() -> None:
    lines = detection.summarize(ROWS, BARE)
    assert lines["leaks alarmed"] == "2 of 3"
    assert lines["alarms on healthy, spike, bloat"] == "1 of 2"
    assert lines["allocation site in the top 5 (kind leak)"] == "1 of 2"
    assert lines["holder named"] == "1 of 1"
    assert lines["native leaks called native"] == "1 of 1"
    assert lines["step p50 over none, median"] == "2.00"
    assert lines["step p99 over none, median"] == "-"


def test_the_share_of_tracing_is_that_of_the_worst_run() -> None:
    rows = [
        row("a", "leak", alarm=True, own_cost={"traced_seconds": 0.3}, elapsed_s=60.0),
        row("b", "leak", alarm=True, own_cost={"traced_seconds": 1.2}, elapsed_s=60.0),
    ]
    assert detection.summarize(rows, {})["share of the run spent tracing, most"] == "2.0%"


def test_the_table_has_a_column_for_each_adapter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path / "out")
    (tmp_path / "results").mkdir()
    for adapter in ("memguard", "tracemalloc_diff"):
        stored = {str(entry["case"]): entry for entry in ROWS}
        (tmp_path / "results" / f"{adapter}-60s.json").write_text(json.dumps(stored))
    options = ["--corpus", str(tmp_path), "--stored", "--home", str(tmp_path)]
    assert detection.main(options) == 0
    printed = capsys.readouterr()
    assert "| leaks alarmed | 2 of 3 | 2 of 3 |" in printed.out
    assert "objgraph_growth: nothing stored" in printed.err
    assert len(list((tmp_path / "out").glob("detection-*.json"))) == 1


def test_without_any_result_it_fails(tmp_path: Path) -> None:
    assert detection.main(["--corpus", str(tmp_path), "--stored", "--home", str(tmp_path)]) == 1


def test_what_the_peers_say_becomes_rows_of_the_corpus() -> None:
    """With stand-ins for the peers: the real ones need the corpus, and minutes."""
    hunter = detection_peers.LeakHunter.__new__(detection_peers.LeakHunter)
    peer = SimpleNamespace(
        diagnose=lambda _: "RSS grows. malloc heap in use grows: memory is being retained",
        count_objects=lambda: Counter({"app.Order": 90, "list": 50}),
        why_alive=lambda name: SimpleNamespace(format=lambda: f"{name} held by app.ORDERS"),
    )
    vars(hunter).update(
        _hunter=peer,
        _duration=20.0,
        _counts=[Counter({"app.Order": 10, "list": 50}), Counter({"app.Order": 50, "list": 50})],
        _sampler=SimpleNamespace(stop=lambda: None, samples=[]),
    )
    found = hunter.finish()
    assert (found["alarm"], found["verdict"]) == (True, "retained")
    assert [suspect["function"] for suspect in found["suspects"]] == ["app.Order"]
    assert found["retainers"] == ["app.Order held by app.ORDERS"]

    watch = detection_peers.LeakWatch.__new__(detection_peers.LeakWatch)
    report = {
        "growth_summary": [{"leak_score": 90, "growth_percent": 900.0}],
        "leaks": [{"created_at": ["shop/orders.py:12"]}],
    }
    vars(watch).update(_monitor=SimpleNamespace(stop=lambda: report), _duration=20.0)
    seen = watch.finish()
    assert seen["alarm"]
    assert [(row["file"], row["line"]) for row in seen["suspects"]] == [("shop/orders.py", 12)]


def test_pairs_compare_runs_that_took_turns() -> None:
    runs = {"none": [(10.0, 100.0), (30.0, 100.0)], "memguard": [(20.0, 150.0), (22.0, 250.0)]}
    assert detection_pairs.ratio(runs, 0) == pytest.approx(1.05)
    assert detection_pairs.ratio(runs, 1) == pytest.approx(2.0)
    assert detection_pairs.ratio({"none": [], "memguard": [(1.0, 1.0)]}, 0) is None
