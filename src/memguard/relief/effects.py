"""
What a callback frees, as looks at memory show it. Pure: numbers in, a judgement out.

The effect of a callback may come after its end: it set a flag for another thread, or ran on an
event loop. So its falls of memory are added up for a while before it is said to have freed nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WORTH = 64 * 1024
"""Bytes: a fall of less is noise."""
MEASURABLE = 1024 * 1024
"""Bytes: a report of less is not compared with what memory fell by."""
_BELIEVABLE = 4
"""A callback may report so many times of what memory fell by."""
_MOST_SKIPS = 15


@dataclass(slots=True)
class Backoff:
    """Skip what frees nothing ever longer: once, three times, up to 15 times."""

    useless: int = 0
    skips: int = 0

    def should_skip(self) -> bool:
        """Return whether to leave it out this time; counts the times."""
        if self.skips <= 0:
            return False
        self.skips -= 1
        return True

    def remember(self, *, useful: bool) -> None:
        """Note whether it gave anything."""
        self.useless = 0 if useful else min(self.useless + 1, 10)
        self.skips = min((1 << self.useless) - 1, _MOST_SKIPS)


@dataclass(slots=True)
class Effect:
    """What memory did since a callback was called. Bytes."""

    mark: int
    """Private memory from which falls count."""
    until: float
    """When it is judged."""
    reported: int = 0
    """What the callback says it freed."""
    fell: int = 0

    @property
    def is_seen(self) -> bool:
        """True once memory has fallen by more than noise."""
        return self.fell >= WORTH

    def see(self, private: int) -> int:
        """Look at *private* memory now; return by how much it fell further than ever."""
        more = max(0, self.mark - private - self.fell)
        self.fell += more
        return more

    def go_on(self, mark: int, reported: int) -> None:
        """Add another call, at which private memory was *mark*, before this one was judged."""
        self.mark = mark + self.fell
        self.reported += reported


@dataclass(slots=True)
class Record:
    """What is known of one callback."""

    backoff: Backoff = field(default_factory=Backoff)
    effect: Effect | None = None
    """What is not judged yet."""
    believed: bool = True
    """Whether what it reports is what memory falls by."""

    @property
    def is_awaited(self) -> bool:
        """True while nothing was seen of what it may free yet."""
        return self.effect is not None and not self.effect.is_seen

    def called(self, *, before: int, reported: int, until: float) -> None:
        """Note a call: private memory *before* it, what it *reported*, *until* when to look."""
        if self.is_awaited and self.effect is not None:
            self.effect.go_on(before, reported)
        else:
            self.effect = Effect(before, until, reported)

    def see(self, private: int) -> int:
        """Look at *private* memory now; return by how much it fell further than ever."""
        effect = self.effect
        if effect is None:
            return 0
        was_seen = effect.is_seen
        more = effect.see(private)
        if effect.is_seen and not was_seen:
            self.backoff.remember(useful=True)
        return more

    def judge(self, now: float) -> None:
        """Say what came of it, when its time is up."""
        effect = self.effect
        if effect is None or now < effect.until:
            return
        self.effect = None
        if effect.reported >= MEASURABLE:
            self.believed = effect.fell * _BELIEVABLE >= effect.reported
        if not effect.is_seen:
            self.backoff.remember(useful=effect.reported > 0 and self.believed)
