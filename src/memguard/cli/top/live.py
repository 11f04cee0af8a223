"""The live view of ``memguard top`` on a terminal. Needs rich, from the extra ``top``."""

from __future__ import annotations

import os
import select
import sys
import time
from typing import Any, Self

from memguard.cli.terminal import Terminated
from memguard.cli.top import view
from memguard.cli.top.sources import NoGuardError, Snapshot, Source
from memguard.cli.top.view import ASCII, BLOCKS, Line, Trail
from memguard.extras import missing
from memguard.report.render.words import printable

try:
    from rich.console import Console, Group
    from rich.live import Live
    from rich.panel import Panel
    from rich.text import Text
except ImportError as error:
    raise missing("rich", "top") from error

_STYLES = {
    "": "",
    "dim": "dim",
    "bold": "bold",
    "ok": "green",
    "elevated": "yellow",
    "critical": "bold red",
    "curve": "cyan",
}
_GLANCE = 0.25
"""Seconds between two looks at the keyboard and at the terminal's size."""


def show(source: Source, interval: float) -> str | None:
    """
    Show snapshot of *source* every *interval* seconds until q is pressed.

    Returns:
        What to print at the end, if the process is gone; None after q.

    Raises:
        NoGuardError: There was none from the beginning.
        KeyboardInterrupt: As usual.
    """
    console = Console(highlight=False, emoji=False, markup=False)
    trail, snapshot = Trail(), source.read()
    trail.add(snapshot.status)
    with (
        Terminated(),
        Keys() as keys,
        Live(
            _picture(console, snapshot, trail),
            console=console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        ) as live,
    ):
        due, size = time.monotonic() + interval, console.size
        while True:
            pressed = keys.pressed(max(0.0, min(_GLANCE, due - time.monotonic())))
            if pressed & {"q", "Q", "\x03", "\x04"}:
                return None
            if time.monotonic() >= due:
                due = time.monotonic() + interval
                try:
                    snapshot = source.read()
                except NoGuardError as error:
                    return printable(str(error).partition("\n")[0], longest=400)
                trail.add(snapshot.status)
            elif console.size == size:
                continue
            size = console.size
            live.update(_picture(console, snapshot, trail), refresh=True)


def _picture(console: Console, snapshot: Snapshot, trail: Trail) -> Group:
    glyphs = ASCII if console.options.ascii_only else BLOCKS
    width, height = console.size
    made = view.sections(
        snapshot.status, trail.points, width=max(20, width - 4), height=height - 2, glyphs=glyphs
    )
    frame = "dim" if not view.is_late(snapshot.status, snapshot.age) else "red"
    panels = [
        Panel(
            Group(*map(_text, section.lines)),
            title=Text(f" {section.title} "),
            title_align="left",
            border_style=frame,
            padding=(0, 1),
        )
        for section in made
    ]
    ending = _text((view.Span(" q ends", "dim"),))
    return Group(_text(view.headline(snapshot.status, age=snapshot.age)), *panels, ending)


def _text(line: Line) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    for span in line:
        text.append(span.text, _STYLES[span.style])
    return text


class Keys:
    """
    Read the keys that are pressed, without Enter and without echo.

    Bounded by: what a terminal buffers.
    Locks: none; for one thread.
    Keeps alive: the terminal's former settings, which come back at the end.
    """

    def __enter__(self) -> Self:
        """Switch the terminal to single keys."""
        self._terminal: int | None = None
        self._settings: list[Any] = []
        if sys.platform != "win32" and sys.stdin is not None and sys.stdin.isatty():
            import termios  # noqa: PLC0415 - reason: not on Windows
            import tty  # noqa: PLC0415 - reason: not on Windows

            self._terminal = sys.stdin.fileno()
            self._settings = termios.tcgetattr(self._terminal)
            tty.setcbreak(self._terminal)
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the settings of the terminal."""
        if sys.platform != "win32" and self._terminal is not None:
            import termios  # noqa: PLC0415 - reason: not on Windows

            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._settings)

    def pressed(self, timeout: float) -> set[str]:
        """Return what was pressed, after *timeout* seconds at the latest."""
        if sys.platform == "win32":
            return self._pressed_on_windows(timeout)
        if self._terminal is None:
            time.sleep(timeout)
            return set()
        ready, _, _ = select.select([self._terminal], [], [], timeout)
        if not ready:
            return set()
        # At the end of input the terminal is gone, which counts as q.
        return set(os.read(self._terminal, 64).decode("latin-1")) or {"q"}

    @staticmethod
    def _pressed_on_windows(timeout: float) -> set[str]:
        if sys.platform != "win32":
            return set()
        import msvcrt  # noqa: PLC0415 - reason: only on Windows

        end = time.monotonic() + timeout
        while not msvcrt.kbhit():
            if time.monotonic() >= end:
                return set()
            time.sleep(0.02)
        return {msvcrt.getwch()}
