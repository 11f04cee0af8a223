"""One run of the shop: server and client as child processes, and what can be seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil

from memguard import LeakReport
from memguard.units import MiB, format_bytes

from . import db
from .client import GRACE_SECONDS
from .expected import PACKAGE, SOURCES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Variant = Literal["leaky", "repaired"]
APPLICATIONS: dict[Variant, str] = {
    "leaky": f"{PACKAGE}.app:app",
    "repaired": f"{PACKAGE}.repaired:app",
}

START_SECONDS = 15.0
STOP_SECONDS = 15.0
SAMPLE_SECONDS = 0.25
CEILING_BYTES = 1024 * MiB
"""Resident size at which a run is broken off: no demo may eat the machine it runs on."""
EVENT = "leak.suspected"


class RunError(RuntimeError):
    """A run that proves nothing: a child did not start, ended early or did not stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the client sends."""

    seconds: float = 33.0
    rate: float = 80.0
    seed: int = 1
    interval: float = 0.25
    """Seconds between two readings of the detector inside the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run left behind: numbers, strings and the reports memguard wrote."""

    variant: Variant
    curve: tuple[tuple[float, int], ...]
    """(seconds since the detector's start, resident bytes), read from outside the server."""
    reports: tuple[LeakReport, ...]
    report_files: tuple[Path, ...]
    open_files: tuple[str, ...]
    """Report files and folders that others than their owner may enter, read or write."""
    events: int
    """Lines of the server's log that carry the event ``leak.suspected``."""
    client: dict[str, Any]
    statistics: dict[str, Any]
    """The detector's own statistics at its end."""
    tracing_at_end: bool
    log: Path

    @property
    def alarms(self) -> tuple[LeakReport, ...]:
        """The reports that say: this is a leak."""
        return tuple(report for report in self.reports if report.kind == "leak")


@dataclass(slots=True)
class _Children:
    """The processes of one run. Each of them is gone when the ``with`` block is left."""

    directory: Path
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        paths = [str(SOURCES.parent), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        environment["SHOP_DATABASE"] = str(self.directory / "shop.sqlite3")
        with log.open("wb") as output, _interrupts_put_off():
            child = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # An interrupt from the terminal is the driver's to handle; it ends its children.
                **_own_group(),
            )
            self.running.append(child)
        return child

    def end(self) -> None:
        for child in reversed(self.running):
            if child.stdin is not None:
                with contextlib.suppress(OSError):
                    child.stdin.close()
            if child.poll() is None:
                child.terminate()
        for child in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=STOP_SECONDS)
            if child.poll() is None:
                child.kill()
                child.wait()


@contextlib.contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Put an interrupt off until the child being started is known: nobody else would end it."""
    is_ours = threading.current_thread() is threading.main_thread()
    if not is_ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    asked: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if asked:
            raise KeyboardInterrupt


def _own_group() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


@contextlib.contextmanager
def _children(directory: Path) -> Iterator[_Children]:
    children = _Children(directory)
    try:
        yield children
    finally:
        children.end()


def run(
    variant: Variant,
    load: Load,
    directory: Path,
    on_sample: Callable[[float, int], None] = lambda _seconds, _bytes: None,
) -> Run:
    """
    Return what one run of the shop left. Every child has ended when this returns or raises.

    Takes ``load.seconds`` and about two more.

    Args:
        variant: Which shop.
        load: What the client sends.
        directory: Where the files of this run go; it must not be there yet.
        on_sample: Called four times a second with the share done, 0 to 1, and the resident bytes.

    Raises:
        RunError: A child did not start in time, ended early or had to be killed.
    """
    directory.mkdir(parents=True)
    db.create(directory / "shop.sqlite3", seed=load.seed)
    server_log, client_log = directory / "server.log", directory / "client.log"
    with _children(directory) as children:
        server = children.start(
            f"{PACKAGE}.serve",
            APPLICATIONS[variant],
            "--directory",
            str(directory),
            "--interval",
            str(load.interval),
            log=server_log,
        )
        address = _wait_for_server(server, directory / "server.json", server_log)
        client = children.start(
            f"{PACKAGE}.client",
            f"http://127.0.0.1:{address['port']}",
            *("--seconds", str(load.seconds), "--rate", str(load.rate)),
            *("--seed", str(load.seed), "--result", str(directory / "client.json")),
            log=client_log,
        )
        watched = _watch(server, client, server_log, load, on_sample)
        curve = [(at - address["started"], resident) for at, resident in watched]
        if client.returncode != 0:
            raise RunError(f"the client ended with {client.returncode}:\n{_tail(client_log)}")
        if server.stdin is not None:
            server.stdin.close()
        try:
            status = server.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise RunError(f"the server did not stop:\n{_tail(server_log)}") from error
        if status != 0:
            raise RunError(f"the server ended with {status}:\n{_tail(server_log)}")
    for leftover in directory.glob("shop.sqlite3*"):
        leftover.unlink()
    return _gather(variant, tuple(curve), directory)


def _wait_for_server(server: subprocess.Popen[bytes], address: Path, log: Path) -> dict[str, float]:
    deadline = time.monotonic() + START_SECONDS
    while not address.exists():
        if server.poll() is not None:
            raise RunError(f"the server ended with {server.returncode} at once:\n{_tail(log)}")
        if time.monotonic() > deadline:
            raise RunError(f"the server did not start in {START_SECONDS:.0f} s:\n{_tail(log)}")
        time.sleep(0.02)
    data: dict[str, float] = json.loads(address.read_text(encoding="utf-8"))
    return data


def _watch(
    server: subprocess.Popen[bytes],
    client: subprocess.Popen[bytes],
    log: Path,
    load: Load,
    on_sample: Callable[[float, int], None],
) -> Iterator[tuple[float, int]]:
    """Yield the time of day and the server's resident bytes until the client has ended."""
    process = psutil.Process(server.pid)
    begin = time.monotonic()
    deadline = begin + load.seconds + GRACE_SECONDS + STOP_SECONDS
    while client.poll() is None:
        if server.poll() is not None:
            raise RunError(f"the server ended with {server.returncode} under load:\n{_tail(log)}")
        now = time.monotonic()
        if now > deadline:
            raise RunError("the client did not keep to its time")
        try:
            resident = int(process.memory_info().rss)
        except psutil.Error:
            continue  # it is ending just now: the next round detects it
        if resident > CEILING_BYTES:
            raise RunError(f"the server holds {format_bytes(resident)}:\n{_tail(log)}")
        on_sample(min(1.0, (now - begin) / load.seconds), resident)
        yield time.time(), resident
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(timeout=SAMPLE_SECONDS)


def _gather(variant: Variant, curve: tuple[tuple[float, int], ...], directory: Path) -> Run:
    folder = directory / "reports"
    files = tuple(sorted(folder.glob("*"))) if folder.is_dir() else ()
    ending = json.loads((directory / "statistics.json").read_text(encoding="utf-8"))
    log = directory / "server.log"
    return Run(
        variant=variant,
        curve=curve,
        reports=tuple(
            LeakReport.from_dict(json.loads(path.read_text(encoding="utf-8")))
            for path in files
            if path.suffix == ".json"
        ),
        report_files=files,
        open_files=tuple(path.name for path in (folder, *files) if _is_open(path)),
        events=sum(EVENT in line for line in log.read_text(encoding="utf-8").splitlines()),
        client=json.loads((directory / "client.json").read_text(encoding="utf-8")),
        statistics=ending["statistics"],
        tracing_at_end=ending["tracing"],
        log=log,
    )


def _is_open(path: Path) -> bool:
    if sys.platform == "win32" or not path.exists():
        return False
    return bool(stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO))


def _tail(log: Path, lines: int = 20) -> str:
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    return "\n".join(text.splitlines()[-lines:])
