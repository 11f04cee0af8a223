"""
The shop as a process: uvicorn on a free loopback port, with memguard inside.

``python -m leaky_shop.serve leaky_shop.app:app`` says where it listens in ``server.json``, serves
until its standard input ends (which it does when the parent dies, too), and leaves what memguard
says of itself in ``statistics.json``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import sys
import threading
import time
import tracemalloc
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

import memguard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

STDIN = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve the application named on the command line until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("application", help="module:name")
    parser.add_argument("--directory", type=Path, default=Path(), help="where its files go")
    parser.add_argument("--interval", type=float, default=0.25, help="seconds between readings")
    options = parser.parse_args(arguments)
    directory: Path = options.directory
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")

    config = uvicorn.Config(options.application, access_log=False, log_config=None)
    config.load()
    server = uvicorn.Server(config)
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    with (
        _listener() as listener,
        memguard.LeakDetector(
            interval=options.interval, min_growth_bytes="8MiB", report_dir=directory / "reports"
        ) as detector,
    ):
        write_json(
            directory / "server.json",
            {"port": listener.getsockname()[1], "pid": os.getpid(), "started": time.time()},
        )
        server.run(sockets=[listener])
    write_json(
        directory / "statistics.json",
        {"statistics": asdict(detector.statistics()), "tracing": tracemalloc.is_tracing()},
    )
    return 0


def _listener() -> socket.socket:
    """Return a socket on a free loopback port."""
    # TCP by name, for asyncio sets TCP_NODELAY on no other: answers would wait 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write *data* to *path* so that a reader sees all of it or nothing."""
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(data, default=str), encoding="utf-8")
    draft.replace(path)


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    while os.read(STDIN, 4096):  # not sys.stdin: its lock would be held when the process ends
        pass
    server.should_exit = True


if __name__ == "__main__":
    sys.exit(main())
