"""Exports for the book keeping: written by one worker thread, downloaded when they are done."""

from __future__ import annotations

import itertools
import queue
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import db

if TYPE_CHECKING:
    from pathlib import Path

WAITING_AT_MOST = 100
ROWS_PER_EXPORT = 500


@dataclass(slots=True)
class Job:
    """One export: *csv* is there once it is finished."""

    id: int
    csv: str | None = None


class JobService:
    """
    Writes exports in the background, as long as the application lives.

    Bounded by: at most 100 waiting jobs. The finished ones are kept for their download, and that is
        the planted leak: nobody takes them out again.
    """

    def __init__(self) -> None:
        self.finished: list[Job] = []
        self._waiting: queue.Queue[Job | None] = queue.Queue(WAITING_AT_MOST)
        self._numbers = itertools.count(1)
        self._worker: threading.Thread | None = None

    def start(self, database: Path) -> None:
        """Start the worker thread; it opens its own connection to *database*."""
        self._worker = threading.Thread(target=self._work, args=(database,), name="exports")
        self._worker.start()

    def stop(self) -> None:
        """Let the worker finish what is waiting, and join it."""
        if self._worker is not None:
            self._waiting.put(None, timeout=10)
            self._worker.join()
            self._worker = None

    def submit(self) -> Job:
        """Put a new job in line; raises ``queue.Full`` when 100 are waiting."""
        job = Job(next(self._numbers))
        self._waiting.put_nowait(job)
        return job

    def keep(self, job: Job) -> None:
        """Keep a finished *job* for its download."""
        self.finished.append(job)

    def find(self, number: int) -> Job | None:
        """Return the finished job with this *number*, or None."""
        return next((job for job in reversed(self.finished) if job.id == number), None)

    def _work(self, database: Path) -> None:
        connection = db.connect(database)
        try:
            while (job := self._waiting.get()) is not None:
                write_export(job, db.sold_lines(connection, ROWS_PER_EXPORT))
                self.keep(job)
        finally:
            connection.close()


def write_export(job: Job, rows: list[db.ExportRow]) -> None:
    """Write *rows* as CSV into *job*."""
    lines = ["order,customer,product,pieces,total"]
    for row in rows:
        total = row.pieces * row.cents / 100
        lines.append(f"{row.order},{row.customer},{row.product},{row.pieces},{total:.2f} EUR")
    job.csv = "\r\n".join(lines)  # planted: jobs


SERVICE = JobService()
