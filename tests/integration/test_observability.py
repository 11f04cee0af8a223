"""examples/observability: its rules by the real promtool, and the walk with a real Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest

import memguard
from examples.observability.__main__ import WANTED, hurried
from memguard.report.metrics.catalog import FAMILIES
from memguard.report.metrics.prometheus.collector import MemguardCollector

pytestmark = pytest.mark.stress

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "observability"
RULES: dict[str, Any] = yaml.safe_load((EXAMPLE / "memguard-rules.yml").read_text("utf-8"))
EACH_RULE = [rule for group in RULES["groups"] for rule in group["rules"]]
RECORDED = {rule["record"] for rule in EACH_RULE if "record" in rule}
ALERTS = {rule["alert"] for rule in EACH_RULE if "alert" in rule}
DASHBOARD: dict[str, Any] = json.loads((EXAMPLE / "dashboard.json").read_text("utf-8"))

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not installed (Debian: prometheus)"
)


def promtool(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        [str(shutil.which("promtool")), *arguments],
        cwd=EXAMPLE,
        input=text,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@needs_promtool
def test_the_rules_and_the_configuration_are_valid() -> None:
    assert f"{len(EACH_RULE)} rules found" in promtool("check", "rules", "memguard-rules.yml")
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@needs_promtool
def test_each_rule_tells_what_it_should_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", "memguard-rules-test.yml")


def test_each_rule_is_tested() -> None:
    text = (EXAMPLE / "memguard-rules-test.yml").read_text("utf-8")
    told = {
        alert["alertname"]
        for test in yaml.safe_load(text)["tests"]
        for alert in test.get("alert_rule_test", ())
        if alert["exp_alerts"]
    }
    assert told == ALERTS
    assert not {name for name in RECORDED if name not in text}


@needs_promtool
def test_the_metrics_themselves_pass_the_linter() -> None:
    cache: memguard.BoundedCache[int, int] = memguard.BoundedCache(maxsize=9, name="linted")
    with memguard.MemoryGuard(limit="100GiB") as guard:
        guard.monitor.tick()
        text = generate_latest(MemguardCollector(guard).registry).decode()
    assert promtool("check", "metrics", text=text) == ""
    del cache


def samples_of_ours() -> set[str]:
    names = {family.prometheus for family in FAMILIES if family.kind != "histogram"}
    for family in FAMILIES:
        if family.kind == "histogram":
            names |= {f"{family.prometheus}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return names


NAME = re.compile(r"(?:[a-z]+:)?memguard_[a-z_]+(?::[a-z0-9_]+)?")


def named_by(expression: str) -> set[str]:
    return set(NAME.findall(expression))


def test_names_are_found_in_an_expression() -> None:
    expression = "sum(rate(memguard_cpu_seconds_total{a='b'}[5m])) / job:memguard_x:sum > 1"
    assert named_by(expression) == {"memguard_cpu_seconds_total", "job:memguard_x:sum"}


def test_the_rules_name_only_metrics_that_there_are() -> None:
    named = set().union(*(named_by(rule["expr"]) for rule in EACH_RULE))
    assert named
    assert named - RECORDED <= samples_of_ours()
    told = " ".join(str(rule.get("annotations", "")) for rule in EACH_RULE)
    assert named_by(told) <= samples_of_ours()


def test_the_dashboard_names_only_metrics_that_there_are() -> None:
    expressions = [
        target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())
    ]
    variables = [each.get("definition", "") for each in DASHBOARD["templating"]["list"]]
    named = set().union(*map(named_by, expressions + variables))
    assert len(named) > 20
    assert named <= samples_of_ours() | RECORDED


def test_the_panels_of_the_dashboard_are_told_apart_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_only_times_are_made_shorter_for_the_walk() -> None:
    text = (EXAMPLE / "memguard-rules.yml").read_text("utf-8")
    pairs = zip(text.splitlines(), hurried(text).splitlines(), strict=True)
    changed = [(before.strip(), after.strip()) for before, after in pairs if before != after]
    assert ("for: 5m", "for: 1s") in changed
    assert all("for: " in before or "[" in before for before, _ in changed)


@needs_prometheus
@pytest.mark.timeout(180)
def test_the_walk_ends_well() -> None:
    """The service fills its memory, a real Prometheus fires the alerts, and resolves them."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.observability"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        env={
            **{name: text for name, text in os.environ.items() if "MEMGUARD" not in name},
            "PYTHONPATH": str(ROOT / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in WANTED:
        assert f"firing:     {name}: " in done.stdout
    assert done.stdout.splitlines()[-1] == "every alert fired and was resolved"


def test_without_prometheus_the_walk_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.observability"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PATH": "/nowhere"},
    )
    assert done.returncode == 3
    assert "apt-get install prometheus" in done.stderr
