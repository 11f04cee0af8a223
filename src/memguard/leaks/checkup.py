"""One full look now, whatever the readings say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from memguard.bounded import inventory
from memguard.leaks.finding.evidence import Evidence
from memguard.leaks.finding.investigate import POLL_SECONDS, Investigation
from memguard.leaks.growth.trend import Trend
from memguard.leaks.growth.windows import Watch
from memguard.leaks.options import DetectorOptions
from memguard.observe.readings import Reading

READINGS = 9
"""Between the two looks: enough to tell growth from what a request holds for a moment."""


class Checkup:
    """
    Two looks, a burst of tracing, the holders: all in the caller's thread.

    Bounded by: the options' seconds and bytes.
    Locks: none; the caller holds the detector's.
    Keeps alive: nothing after ``take``.
    """

    def __init__(
        self,
        options: DetectorOptions,
        timer: Callable[[], float],
        read: Callable[[], Reading],
    ) -> None:
        self._timer = timer
        self._read = read
        self._watch = Watch(options)
        self._investigation = Investigation(options, containers=inventory.names)
        self.cpu_seconds = 0.0

    @property
    def traced_seconds(self) -> float:
        """Seconds that tracing was on."""
        return self._investigation.traced_seconds

    @property
    def trend(self) -> Trend:
        """What memory did between the two looks."""
        return self._watch.describe()

    def take(self, gap: float) -> Evidence:
        """Return the evidence of two looks *gap* seconds apart. Blocks the calling thread."""
        started = time.thread_time()
        pause = threading.Event()
        try:
            self._investigation.look(self._timer())  # first: what it keeps is no growth
            self._watch.add(self._timer(), self._read())
            for _ in range(READINGS - 1):
                pause.wait(gap / (READINGS - 1))
                self._watch.add(self._timer(), self._read())
            self._investigation.begin(self._timer())
            while not self._investigation.poll():
                pause.wait(POLL_SECONDS)
            return self._investigation.finish()
        finally:
            self._investigation.abandon()
            self.cpu_seconds = time.thread_time() - started
