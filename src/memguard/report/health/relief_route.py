"""The relief request: frees memory for a caller that has the token."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.relief.records import ReliefReport, describe_change
from memguard.report.health.background import BackgroundWork, WorkFailedError
from memguard.report.health.http import (
    MOST_BODY,
    Replies,
    Request,
    Response,
    Wait,
    bearer,
    is_cross_site,
    is_one_of,
)
from memguard.report.health.page.document import LastRun
from memguard.report.render.words import capital
from memguard.report.state import Guarded
from memguard.units import format_seconds, parse_bytes

_LOG_SECONDS = 60.0


class ReliefRoute:
    """
    Check the token, the target and the process of a request; then start the run.

    Bounded by: one run at a time, in a thread of its own; the report of the last one.
    Locks: one around what is under way; none is held while memory is freed.
    Keeps alive: what *find* keeps.

    Args:
        find: Returns the guard.
        instance: Returns what distinguishes this process from others at the same address.
        token: What must be sent along.
        seconds: Longest wait for a run.
        failed: Called with what went wrong in a run, before that is answered.
    """

    def __init__(
        self,
        find: Callable[[], Guarded],
        instance: Callable[[], str],
        *,
        token: bytes,
        seconds: float,
        failed: Callable[[str, BaseException], object],
    ) -> None:
        self._find = find
        self._instance = instance
        self._token = token
        self._seconds = seconds
        self._failed = failed
        self._background: BackgroundWork[ReliefReport] = BackgroundWork("memguard-health-relief")
        self._last: LastRun | None = None
        self._logged_at = float("-inf")
        self.wrong_tokens = 0

    @property
    def last(self) -> LastRun | None:
        """The last run of this process; a run of the parent process does not count."""
        last = self._last
        return last if last is not None and last.process_id == os.getpid() else None

    def answer(self, request: Request) -> Response | Wait:
        """Return the refusal, or how to wait for the run."""
        replies = Replies.to(request.headers)
        try:
            return self._start(self._target(request), replies)
        except _RefusedError as refused:
            return replies.refuse(*refused.args)

    def _target(self, request: Request) -> int | None:
        """Return the bytes that are wanted, None for all that can be had."""
        if is_cross_site(request.headers):
            raise _RefusedError(403, "cross-site", "Cross-site requests are rejected.")
        form = _form(request)
        # Not the password of Basic: a browser sends that by itself, also for other sites.
        given = (bearer(request.headers), form.get("token"))
        if not is_one_of(given, (self._token,)):
            self._count_wrong_token()
            raise _RefusedError(403, "no access", "The token is wrong.")
        if form.get("instance", "") not in ("", self._instance()):
            raise _RefusedError(409, "another process", "Another process answered; try again.")
        if self._find().relief is None:
            raise _RefusedError(409, "no relief", "This guard frees no memory (relief=False).")
        try:
            return parse_bytes(form["target"], name="target") if form.get("target") else None
        except ConfigError as error:
            raise _RefusedError(400, "malformed", f"{error}.") from None

    def _count_wrong_token(self) -> None:
        """Log it once a minute at most: who tries tokens must not fill the host's log."""
        self.wrong_tokens += 1
        now = time.monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.event(log.WARNING, "health.relief_refused", wrong_tokens=self.wrong_tokens)

    def _start(self, target: int | None, replies: Replies) -> Response | Wait:
        future = self._background.ask(lambda: self._run(target), join=False)
        busy = replies.refuse(409, "busy", "A run is in progress; nothing was done.")
        busy = busy.having("Retry-After", "1")
        if future == "busy":
            return busy
        if future == "no thread":
            return replies.refuse(503, "no thread", "No thread could be started.")

        def finish() -> Response:
            try:
                report = future.result()
            except WorkFailedError as error:
                return replies.refuse(500, "failed", f"The run failed: {error}.")
            if report.busy:
                return busy
            message = (
                f"{capital(describe_change(report.rss_freed))} in {format_seconds(report.seconds)}."
            )
            return replies.accept(200, message, process_id=os.getpid(), report=report.to_dict())

        def late() -> Response:
            return replies.accept(202, "The run is in progress; the page will show what it freed.")

        return Wait(future=future, finish=finish, late=late, seconds=self._seconds)

    def _run(self, target: int | None) -> ReliefReport:
        try:
            relief = self._find().relief
            if relief is None:
                raise LifecycleError("this guard frees no memory (relief=False)")  # noqa: TRY301 - reason: counted as a failed run
            report = relief.relieve(target)
        except Exception as error:
            self._failed("relief", error)
            raise
        if not report.busy:
            self._last = LastRun(at=time.time(), process_id=os.getpid(), report=report)
        return report


class _RefusedError(Exception):
    """A request that is refused: status, stable name, sentence."""


def _form(request: Request) -> dict[str, str]:
    if request.body is None:
        raise _RefusedError(413, "too large", f"More than {MOST_BODY} bytes were sent.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.body and kind != "application/x-www-form-urlencoded":
        raise _RefusedError(415, "unsupported", "Send application/x-www-form-urlencoded.")
    try:
        text = request.body.decode("utf-8")
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=8, errors="strict")
    except ValueError:
        raise _RefusedError(400, "malformed", "The form cannot be read.") from None
    return {name: values[-1] for name, values in fields.items()}
