"""
Adapters for the corpus: python-leak-hunter and leakwatch-py, each as its own documentation uses it.

Run one case at a time, in a process of its own, as the corpus runner does it:

    python -m benchmarks.detection --corpus DIR --adapters leak_hunter,leakwatch

The runner starts *this file* as the child, which adds the adapters to those of the corpus and hands
over to it. The peers are installed with pip into a folder of their own.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PEERS = {"leak_hunter": "python-leak-hunter==0.1.1", "leakwatch": "leakwatch-py==1.0.0"}

Found = dict[str, Any]


class LeakHunter:
    """
    ``MemorySampler`` and ``diagnose`` for the alarm, then what its documents do next by hand.

    Types that grow in both of two windows (``count_objects``), and ``why_alive`` for the first few.
    """

    def __init__(self, duration_s: float) -> None:
        self._hunter: Any = importlib.import_module("leak_hunter")
        self._duration = duration_s
        self._counts: list[Any] = []
        self._sampler = self._hunter.MemorySampler(interval=max(0.25, duration_s / 80)).start()

    def tick(self, elapsed_s: float) -> None:
        """Count objects at a third and at two thirds of the run."""
        if elapsed_s >= self._duration * (len(self._counts) + 1) / 3 and len(self._counts) < 2:
            self._counts.append(self._hunter.count_objects())

    def finish(self) -> Found:
        """Return what it says of the run."""
        self._sampler.stop()
        said = self._hunter.diagnose(self._sampler.samples)
        is_native = "allocated outside malloc" in said
        alarm = "being retained" in said or is_native
        grown = self._growing() if alarm else []
        return {
            "alarm": alarm,
            "t_alarm_s": self._duration if alarm else None,
            "verdict": "native" if is_native else "retained",
            "suspects": [
                {"file": None, "line": None, "function": name, "bytes": None} for name in grown[:10]
            ],
            "retainers": [self._why(name) for name in grown[:3]],
        }

    def _growing(self) -> list[str]:
        if len(self._counts) < 2:
            return []
        (first, second), last = self._counts, self._hunter.count_objects()
        gained = {
            name: last[name] - second[name]
            for name in last
            if last[name] - second[name] > 10 and second[name] - first[name] > 10
        }
        return sorted(gained, key=lambda name: -gained[name])

    def _why(self, name: str) -> str:
        try:
            return str(self._hunter.why_alive(name).format())
        except Exception as error:  # noqa: BLE001 - reason: a peer's failure is a result, too
            return f"failed: {type(error).__name__}"


class LeakWatch:
    """``watch()``, with its rule for "Potential Leak Detected" as the alarm."""

    def __init__(self, duration_s: float) -> None:
        watch = importlib.import_module("leakwatch").watch
        self._duration = duration_s
        self._monitor: Any = watch(interval=min(10.0, duration_s / 6))  # 10 s by default

    def finish(self) -> Found:
        """Return what it says of the run."""
        report = self._monitor.stop()
        alarm = any(
            row["leak_score"] >= 75 and row["growth_percent"] >= 50
            for row in report["growth_summary"]
        )
        suspects = []
        for leak in report["leaks"]:
            for place in leak["created_at"]:
                file, _, line = place.rpartition(":")
                suspects.append({"file": file, "line": int(line), "function": None, "bytes": None})
        return {
            "alarm": alarm,
            "t_alarm_s": self._duration if alarm else None,
            "suspects": suspects[:10],
            "retainers": [],
        }


ADAPTERS = {"leak_hunter": LeakHunter, "leakwatch": LeakWatch}


def run_all(corpus: Path, adapter: str, seconds: float, home: Path) -> None:
    """Run the whole corpus under *adapter*; results are stored as the runner stores its own."""
    runner, stores = _corpus(corpus)
    vars(runner)["run"] = _with_peers(runner, home)
    names = sorted(path.stem for path in (corpus / "cases").glob("*.py"))
    stores.run_set(names, adapter, seconds, 200.0, "", True, False)


def _with_peers(runner: Any, home: Path) -> Any:
    plain = runner.run

    def run(name: str, adapter: str, seconds: float, rate: float, **_: Any) -> Any:
        version = runner.load_meta(name)["PYTHON"]
        folder = home / f"_peers-{version}"
        if not (folder / ".ok").exists():
            python = runner.python_for(version)
            command = [python, "-m", "pip", "install", "-q", "--target", str(folder), "psutil"]
            subprocess.run([*command, *PEERS.values()], check=True)
            (folder / ".ok").touch()
        vars(runner)["__file__"] = __file__  # the child is this file
        environment = {"MEMGUARD_BENCH_CORPUS": runner.HERE}
        return plain(name, adapter, seconds, rate, pythonpath=str(folder), extra_env=environment)

    return run


def _corpus(corpus: Path) -> tuple[Any, Any]:
    sys.path.insert(0, str(corpus))
    return importlib.import_module("run_case"), importlib.import_module("run_all")


if __name__ == "__main__":
    child, _ = _corpus(Path(os.environ["MEMGUARD_BENCH_CORPUS"]))
    child.ADAPTERS.update(ADAPTERS)
    child.main()
