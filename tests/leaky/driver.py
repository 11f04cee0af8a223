"""
Run one specimen under a detector and print its reports as JSON: ``driver.py NAME SECONDS RATIO``.

A specimen is a module with ``step(number)``, called about 500 times a second, or with
``main(tick)``, which calls ``tick()`` itself. The driver ends when there is a report, or when time
is up.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path

from memguard.leaks.detector import LeakDetector

RATE = 500


class Done(BaseException):
    """There is a report, or time is up."""


class Pace:
    """Keeps a specimen at its rate and ends it."""

    def __init__(self, detector: LeakDetector, seconds: float) -> None:
        self.detector = detector
        self.number = 0
        self.begin = time.monotonic()
        self.seconds = seconds

    def __call__(self) -> int:
        """Wait for the next step and return its number."""
        self.number += 1
        late = time.monotonic() - self.begin - self.number / RATE
        if late < 0:
            time.sleep(-late)
        has_found = any(report.is_leaking for report in self.detector.reports)
        if has_found or time.monotonic() - self.begin > self.seconds:
            raise Done
        return self.number


def main() -> None:
    """Run the specimen named on the command line."""
    name, seconds, ratio = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    sys.path.insert(0, str(Path(__file__).parent))
    specimen = importlib.import_module(name)
    detector = LeakDetector(interval=0.05, min_growth_bytes="1MiB", growth_threshold=ratio)
    with detector:
        pace = Pace(detector, seconds)
        try:
            if hasattr(specimen, "main"):
                specimen.main(pace)
            while True:
                specimen.step(pace())
        except Done:
            pass
    print(json.dumps([report.to_dict() for report in detector.reports]))  # noqa: T201 - reason: this is its answer


if __name__ == "__main__":
    main()
