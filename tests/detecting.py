"""A process whose memory a test decides, and a detector that is driven through it by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any, ClassVar

from memguard.leaks.detector import LeakDetector
from memguard.leaks.evidence.gathered import Evidence, HolderEvidence
from memguard.leaks.evidence.newest import Sample
from memguard.leaks.evidence.tracing import Site, Trace
from memguard.leaks.options import DetectorOptions, detector_options
from memguard.observe.readings import Reading
from tests.clock import FakeClock

MiB = 1024**2
LINE = ("/srv/shop/app.py", 57)


def holder(path: str = "shop.app.SESSIONS", **changes: Any) -> HolderEvidence:
    """Return a dict that gains an entry of 1 KiB sixty times a minute."""
    fields: dict[str, Any] = {
        "type": "dict",
        "path": path,
        "anchored": True,
        "inventory_name": None,
        "bound": None,
        "entries": 5000,
        "entries_added": 4000,
        "entries_per_minute": 60.0 * 1024,
        "sample": Sample(
            entries=10,
            bytes=10 * 1024,
            types=Counter({"shop.app.Session": 10}),
            lines=Counter({LINE: 9 * 1024}),
            stacks={LINE: (LINE, ("/srv/shop/main.py", 3))},
        ),
        "steady": True,
    }
    return HolderEvidence(**{**fields, **changes})


def evidence(*holders: HolderEvidence, **changes: Any) -> Evidence:
    """Return what an investigation of a growing dict brings home."""
    trace = Trace(seconds=1.0, tracer_bytes=1000, traced_bytes=2 * MiB)
    trace.sites[LINE] = Site(LINE, bytes=MiB, count=1000, stack=(LINE,))
    fields: dict[str, Any] = {
        "gap_seconds": 10.0,
        "holders": list(holders) if holders else [holder()],
        "types": [("shop.app.Session", 5000, 4000)],
        "trace": trace,
        "functions": {LINE: "remember"},
    }
    return Evidence(**{**fields, **changes})


def options(**chosen: Any) -> DetectorOptions:
    """Return the options of a detector with time to trace; *chosen* ones win."""
    given: dict[str, Any] = {
        "interval": 1.0,
        "growth_threshold": 1.3,
        "min_growth_bytes": "1MiB",
        "min_samples": 10,
        "max_samples": 60,
        "warmup": None,
        "cooldown": None,
        "trace_frames": 8,
        "trace_seconds": 20.0,
        "trace_bytes": "4MiB",
        "retention_seconds": 1.0,
        "max_objects": 10**7,
        "max_reports": 5,
    }
    return detector_options(**{**given, **chosen})


class FakeProcess:
    """A process whose private memory is what *level* says."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.level: int | None = 100 * MiB
        self.tracer: int | None = None
        self.failure: Exception | None = None
        self.before_reading: Callable[[], object] = lambda: None

    def read(self) -> Reading:
        """Return a reading, or fail as asked."""
        self.before_reading()
        if self.failure is not None:
            raise self.failure
        return Reading(at=self.clock(), anon=self.level, tracer=self.tracer)


class ScriptedInvestigation:
    """Stands in for ``Investigation``: brings home what a test laid out, after *polls* polls."""

    bring: Evidence
    polls = 2
    made: ClassVar[list[ScriptedInvestigation]]
    failure: ClassVar[dict[str, Exception]]

    def __init__(
        self,
        options: object,  # noqa: ARG002 - reason: the signature it stands in for
        *,
        before: object = None,
        trace: bool = True,
        **_: object,
    ) -> None:
        self.before = before
        self.trace = trace
        self.done: list[str] = []
        self.traced_seconds = 0.0
        self.after = "a second look"
        type(self).made.append(self)

    @property
    def looked(self) -> bool:
        """True once there was a first look."""
        return self.before is not None

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in type(self).failure:
            raise type(self).failure[what]

    def look(self, at: float) -> None:
        """Take a first look."""
        self._do("look")
        self.before = at

    def begin(self, at: float, *, own: AbstractSet[int] = frozenset()) -> None:  # noqa: ARG002 - reason: it stands in
        """Take a second look."""
        self._do("begin")

    def poll(self) -> bool:
        """Return True after *polls* polls."""
        self._do("poll")
        self.traced_seconds += 0.5
        return self.done.count("poll") >= type(self).polls

    def finish(self) -> Evidence:
        """Return what was laid out."""
        self._do("finish")
        return replace(type(self).bring, traced_seconds=self.traced_seconds)

    def abandon(self) -> None:
        """Note that it was abandoned."""
        self.done.append("abandon")


class Bench:
    """A detector, its clock and its process."""

    def __init__(self, clock: FakeClock, **options: Any) -> None:
        self.clock = clock
        self.process = FakeProcess(clock)
        chosen: dict[str, Any] = {
            "interval": 1.0,
            "warmup": 0,
            "cooldown": 5.0,
            "limit": 200 * MiB,  # near: growth by 2 MiB a second is an alarm at once
            "timer": clock,
            "read": self.process.read,
        }
        self.interval = float({**chosen, **options}["interval"])
        self.detector = LeakDetector(**{**chosen, **options})

    @property
    def state(self) -> str:
        """The state that the statistics tell."""
        return self.detector.statistics().state

    def tick(self, level: int | None = None) -> float:
        """Let an interval pass, at *level* bytes, and tick."""
        if level is not None:
            self.process.level = level
        self.clock.advance(self.interval)
        return self.detector.tick()

    def play(self, levels: Iterable[int]) -> None:
        """Tick through *levels*."""
        for level in levels:
            self.tick(level)

    def leak_until(self, state: str, *, step: int = 2 * MiB, most: int = 200) -> int:
        """Grow by *step* a tick until the detector is in *state*; return the ticks it took."""
        for ticks in range(most):
            if self.state == state:
                return ticks
            self.tick((self.process.level or 0) + step)
        raise AssertionError(f"never came to {state}: {self.detector.statistics()}")
