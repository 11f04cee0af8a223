"""The one request that changes something: memory given back to who asks with the token."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from urllib.parse import parse_qs

from memguard import log
from memguard.errors import ConfigError, LifecycleError
from memguard.relief.records import ReliefReport, change
from memguard.report.health.access import bearer, is_cross_site, is_one_of
from memguard.report.health.background import Errand, Outcome
from memguard.report.health.page.document import LastRun
from memguard.report.health.page.words import capital
from memguard.report.health.response import MOST_BODY, Request, Response, Teller, Wait
from memguard.report.state import CanRelieve, Guarded
from memguard.units import format_seconds, parse_bytes

_LOG_SECONDS = 60.0


class ReliefDesk:
    """
    Check who asks, what is asked, and of which process; then have it done.

    Bounded by: one run at a time, in a thread of its own; the report of the last one.
    Locks: that of its errand; none is held while memory is given back.
    Keeps alive: what *find* keeps.

    Args:
        find: Gives the guard.
        instance: Gives what tells this process from others at the same address.
        token: What must be sent along.
        seconds: Longest wait for a run.
        failed: Is told what went wrong in a run, before that is told to who asked.
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
        self._errand: Errand[ReliefReport] = Errand("memguard-health-relief")
        self._last: LastRun | None = None
        self._said_at = float("-inf")
        self.wrong_tokens = 0

    @property
    def last(self) -> LastRun | None:
        """The last run of this process; one of a parent's is none of ours."""
        last = self._last
        return last if last is not None and last.process_id == os.getpid() else None

    def answer(self, request: Request) -> Response | Wait:
        """Return the refusal, or how to wait for the run."""
        say = Teller.of(request.headers)
        try:
            goal = self._wish(request)
        except _RefusedError as refused:
            return say.refuse(*refused.args)
        return self._relieving(goal, say)

    def _wish(self, request: Request) -> int | None:
        """Return the bytes that are wanted, None for all that can be had."""
        if is_cross_site(request.headers):
            raise _RefusedError(403, "cross-site", "This came from another site.")
        form = _form(request)
        # Not the password of Basic: a browser sends that by itself, whoever made it ask.
        given = (bearer(request.headers), form.get("token"))
        if not is_one_of(given, (self._token,)):
            self._count_wrong_token()
            raise _RefusedError(403, "no access", "The token is not the right one.")
        if form.get("instance", "") not in ("", self._instance()):
            raise _RefusedError(409, "another process", "Another process answered; try again.")
        if self._find().relief is None:
            text = "This guard gives nothing back (relief=False)."
            raise _RefusedError(409, "no relief", text)
        try:
            return parse_bytes(form["target"], name="target") if form.get("target") else None
        except ConfigError as error:
            raise _RefusedError(400, "malformed", f"{error}.") from None

    def _count_wrong_token(self) -> None:
        """Log it once a minute at most: who tries tokens must not fill the host's log."""
        self.wrong_tokens += 1
        now = time.monotonic()
        if now - self._said_at >= _LOG_SECONDS:
            self._said_at = now
            log.event(logging.WARNING, "health.relief_refused", wrong_tokens=self.wrong_tokens)

    def _relieving(self, goal: int | None, say: Teller) -> Wait:
        busy = say.refuse(409, "busy", "A run is under way; nothing was done.")
        busy = busy.having("Retry-After", "1")

        def ask(tell: Callable[[Outcome[ReliefReport]], object]) -> Response | None:
            asked = self._errand.ask(tell, join=False, work=lambda: self._run(goal))
            if asked == "busy":
                return busy
            if asked == "no thread":
                return say.refuse(503, "no thread", "The system gives no thread for it.")
            return None

        def finish(outcome: Outcome[ReliefReport]) -> Response:
            report = outcome.value
            if report is None:
                return say.refuse(500, "failed", f"The run failed: {outcome.error}.")
            if report.busy:
                return busy
            what = change(report.rss_freed)
            message = f"{capital(what)} in {format_seconds(report.seconds)}."
            return say.accept(200, message, process_id=os.getpid(), report=report.to_dict())

        def late() -> Response:
            return say.accept(202, "It is under way; the page will show what it gave.")

        return Wait(ask=ask, finish=finish, late=late, seconds=self._seconds)

    def _run(self, goal: int | None) -> ReliefReport:
        try:
            report = self._relief().relieve(goal)
        except Exception as error:
            self._failed("relief", error)
            raise
        if not report.busy:
            self._last = LastRun(at=time.time(), process_id=os.getpid(), report=report)
        return report

    def _relief(self) -> CanRelieve:
        relief = self._find().relief
        if relief is None:
            raise LifecycleError("this guard gives nothing back (relief=False)")
        return relief


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
