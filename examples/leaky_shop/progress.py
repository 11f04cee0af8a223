"""Show a long run: a live bar on a terminal where rich is installed, else a line now and then."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from memguard.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Report = Callable[[float, int], None]

PLAIN_EVERY_SECONDS = 5.0


@contextlib.contextmanager
def shown(label: str) -> Iterator[Report]:
    """Yield a function of (share done, resident bytes) that shows both under *label*."""
    live = None
    if sys.stdout.isatty():
        with contextlib.suppress(ImportError):
            live = _rich(label)
    if live is None:
        yield _plain(label)
    else:
        with live as report:
            yield report


def _rich(label: str) -> contextlib.AbstractContextManager[Report]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415 - reason: an extra, wanted on a terminal only

    @contextlib.contextmanager
    def bar() -> Iterator[Report]:
        columns = (
            TextColumn("{task.description:<24}"),
            BarColumn(),
            TextColumn("{task.fields[memory]:>10}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns) as progress:
            task = progress.add_task(label, total=1.0, memory="")
            yield lambda done, resident: progress.update(
                task, completed=done, memory=format_bytes(resident)
            )

    return bar()


def _plain(label: str) -> Report:
    next_at = time.monotonic()

    def report(done: float, resident: int) -> None:
        nonlocal next_at
        if time.monotonic() >= next_at:
            next_at = time.monotonic() + PLAIN_EVERY_SECONDS
            print(f"  {label}: {done:4.0%}, {format_bytes(resident)} resident", flush=True)

    return report
