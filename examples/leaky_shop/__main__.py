"""
The demo: a web shop leaks, memguard names the lines and the holders; then the repaired shop runs.

Ends with 0 only if every claim it prints was borne out by this very run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from memguard.units import format_bytes

from . import driver, plot, progress, verdict
from .expected import planted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from memguard import LeakReport

    from .driver import Load, Run, Variant

SPARKLINE_COLUMNS = 60
ENOUGH_RUNS = 0.9
"""Share of repeated leaky runs that must name all leaks; the repaired shop may never fail."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 when all claims hold, 1 when one does not, 2 when a run could not be made."""
    options = _parse(arguments)
    load = driver.Load(
        seconds=options.seconds, rate=options.rate, seed=options.seed, interval=options.interval
    )
    variants: list[Variant] = [options.only] if options.only else ["leaky", "repaired"]
    if hasattr(sys.stdout, "reconfigure"):  # a terminal without block characters shows "?"
        sys.stdout.reconfigure(errors="replace")
    try:
        if options.repeat > 1:
            return _repeat(options.repeat, variants, load, options.out)
        return _once(variants, load, options.out)
    except driver.RunError as error:
        print(f"\nThis run proves nothing: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; server and client are stopped", file=sys.stderr)
        return 130


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    usual = driver.Load()
    parser = argparse.ArgumentParser(prog="python -m examples.leaky_shop", description=__doc__)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="of load in each run")
    parser.add_argument("--rate", type=float, default=usual.rate, help="requests a second")
    parser.add_argument("--seed", type=int, default=usual.seed, help="of rows and requests")
    parser.add_argument(
        "--interval", type=float, default=usual.interval, help="seconds between readings"
    )
    parser.add_argument("--only", choices=("leaky", "repaired"), help="one of the two runs")
    parser.add_argument("--repeat", type=int, default=1, help="runs, each with the next seed")
    parser.add_argument("--out", type=Path, default=Path("demo-report"), help="where files go")
    return parser.parse_args(arguments)


def _once(variants: Sequence[Variant], load: Load, out: Path) -> int:
    began = time.monotonic()
    runs = _run_all(variants, load, out)
    findings = verdict.compare(planted(), runs["leaky"].reports if "leaky" in runs else ())
    claims: list[verdict.Claim] = []
    texts: list[str] = []
    rows: list[tuple[str, str, str]] = []
    if "leaky" in runs:
        leaky = runs["leaky"]
        texts = [
            path.read_text(encoding="utf-8") for path in leaky.report_files if path.suffix == ".txt"
        ]
        for text in texts:
            print(f"\n{text.rstrip()}")
        rows = verdict.table(findings)
        print(f"\n{verdict.render_table(rows)}\n")
        claims += verdict.claims_on_leaky(leaky, findings)
    if "repaired" in runs:
        claims += verdict.claims_on_repaired(runs["repaired"])
    _print_curves(list(runs.values()))
    page = _write_page(list(runs.values()), rows, texts, out)
    for run in runs.values():
        print(_cost_line(run))
    print()
    for claim in claims:
        print(claim)
    print(f"\nboth curves and the report: {page}   ({time.monotonic() - began:.0f} s)")
    return 0 if all(claim.holds for claim in claims) else 1


def _run_all(variants: Sequence[Variant], load: Load, out: Path) -> dict[Variant, Run]:
    runs: dict[Variant, Run] = {}
    for variant in variants:
        _clear(out / variant)
        label = f"the {variant} shop"
        print(f"{label}: {load.rate:g} requests/s for {load.seconds:g} s", flush=True)
        with progress.shown(label) as report:
            runs[variant] = driver.run(variant, load, out / variant, report)
        for alarm in runs[variant].alarms:
            print(f"  {verdict.summary_of(alarm)}")
    return runs


def _clear(directory: Path) -> None:
    """Remove what an earlier demo left in *directory*; refuse what is not the demo's."""
    if not directory.exists():
        return
    if not (directory / "server.log").is_file():
        raise driver.RunError(f"{directory} is there and not of this demo; name another --out")
    shutil.rmtree(directory)


def _repeat(times: int, variants: Sequence[Variant], load: Load, out: Path) -> int:
    named = clean = 0
    plants = planted()
    for number in range(1, times + 1):
        print(f"\nrun {number} of {times}")
        seeded = driver.Load(
            seconds=load.seconds,
            rate=load.rate,
            seed=load.seed + number - 1,
            interval=load.interval,
        )
        runs = _run_all(variants, seeded, out / f"run-{number:02d}")
        if "leaky" in runs:
            findings = verdict.compare(plants, runs["leaky"].reports)
            print(verdict.render_table(verdict.table(findings)))
            claims = verdict.claims_on_leaky(runs["leaky"], findings)
            print(*claims, sep="\n")
            named += all(claim.holds for claim in claims)
        if "repaired" in runs:
            claims = verdict.claims_on_repaired(runs["repaired"])
            print(*claims, sep="\n")
            clean += all(claim.holds for claim in claims)
    print()
    good = True
    if "leaky" in variants:
        print(f"leaky:    all claims held in {named} of {times} runs")
        good &= named >= ENOUGH_RUNS * times
    if "repaired" in variants:
        print(f"repaired: all claims held in {clean} of {times} runs")
        good &= clean == times
    return 0 if good else 1


def _print_curves(runs: Sequence[Run]) -> None:
    sizes = [size for run in runs for _, size in run.curve]
    low, high = min(sizes), max(sizes)
    columns = min(SPARKLINE_COLUMNS, max(10, shutil.get_terminal_size().columns - 34))
    print(f"resident memory, {format_bytes(low)} to {format_bytes(high)}")
    for run in runs:
        line = plot.sparkline([size for _, size in run.curve], width=columns, low=low, high=high)
        begin, end = run.curve[0][1], run.curve[-1][1]
        print(f"  {run.variant:<9}{line}  {format_bytes(begin)} -> {format_bytes(end)}")
    print()


def _write_page(
    runs: Sequence[Run], rows: Sequence[tuple[str, str, str]], texts: Sequence[str], out: Path
) -> Path:
    curves = [
        plot.Curve(name=run.variant, points=run.curve, marks=tuple(map(_mark, run.alarms)))
        for run in runs
    ]
    drawing = plot.svg(curves)
    page = out / "index.html"
    (out / "memory.svg").write_text(drawing, encoding="utf-8")
    page.write_text(plot.html("memguard in a leaky shop", drawing, rows, texts), encoding="utf-8")
    return page


def _mark(report: LeakReport) -> tuple[float, str]:
    return report.uptime_seconds, f"reported after {report.uptime_seconds:.0f} s"


def _cost_line(run: Run) -> str:
    statistics, client = run.statistics, run.client
    return (
        f"{run.variant}: {client['sent']:,} requests, median {client['median_ms']:.1f} ms, "
        f"slowest {client['slowest_ms']:.0f} ms; memguard: {statistics['ticks']} readings, "
        f"{statistics['cpu_seconds']:.2f} s of CPU, {statistics['traced_seconds']:.2f} s tracing"
    )


if __name__ == "__main__":
    sys.exit(main())
