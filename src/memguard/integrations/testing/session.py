"""The pytest hooks around the tests that are checked: only the order of steps."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterator
from typing import Any

import pytest

from memguard.errors import ConfigError
from memguard.integrations.testing import PREFIX, report
from memguard.integrations.testing.check import Check
from memguard.integrations.testing.leaks import (
    STACKS,
    TOTALS,
    Finding,
    TracingStoppedError,
    count_leaks,
)
from memguard.integrations.testing.leftovers import Leftovers
from memguard.integrations.testing.options import Plan, Settings, plan_of
from memguard.integrations.testing.peak import NEAR, Peak, PeakLines
from memguard.integrations.testing.rerun import Again, RunFailedError, rehearsals
from memguard.integrations.testing.sites import Runner
from memguard.leaks.evidence import tracing


class _Run:
    """One test on its way through its phases."""

    def __init__(self, item: pytest.Item, plan: Plan) -> None:
        self.item = item
        self.plan = plan
        self.tracer = tracing.Tracer()
        self.peak = Peak()
        self.unsupported: str | None = None
        self.in_call = False
        self.has_passed = False
        self.torn_down: BaseException | None = None
        """What the teardown raised that took place early."""
        self.left: list[str] = []
        """What was left behind when it had taken place."""

    def begin(self) -> None:
        if self.plan.leaks is not None or self.plan.limit is not None:
            self.unsupported = tracing.unsupported()
            if self.unsupported is None:
                self.tracer.start(TOTALS, to_photograph=False)

    @property
    def wants_peak(self) -> bool:
        return self.plan.limit is not None and self.unsupported is None

    @property
    def wants_leaks(self) -> bool:
        return self.plan.leaks is not None and self.unsupported is None

    def note(self, name: str, value: object) -> None:
        """Add a property to the reports of the test."""
        self.item.user_properties.append((PREFIX + name, value))

    def end(self) -> None:
        self.tracer.abandon()


class Measuring:
    """
    The hooks of pytest that measure.

    Bounded by: one test at a time.
    Locks: none; pytest's own thread.
    Keeps alive: the item that is running.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._runner: Runner | None = None
        self._run: _Run | None = None
        self._leftovers = Leftovers(settings.ignores_thread, settings.grace)
        self._again = False
        """True while a test runs again, and nothing of it is looked at."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Leave nothing of a test behind, however it ends."""
        del item
        try:
            return (yield)
        finally:
            self._end()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        """Read the checks of the test, and begin."""
        refused = None if self._again else self._begin(item)
        result = yield
        if refused is not None:
            pytest.fail(f"memguard: {refused}", pytrace=False)
        return result

    def _begin(self, item: pytest.Item) -> str | None:
        """Begin with *item*; return what is wrong with its marker, if anything."""
        self._end()  # of an earlier run of the same item, if a plugin runs it again
        marks = [(mark.args, mark.kwargs) for mark in item.iter_markers("memguard")]
        try:
            plan = plan_of(reversed(marks), self._settings)
        except (TypeError, ConfigError) as error:
            return str(error)
        if not plan.is_empty:
            self._run = _Run(item, plan)
            self._run.begin()
        if plan.fail_on:
            self._leftovers.begin(plan.fail_on)
        return None

    def _end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.end()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Take the peak of the test's own code."""
        run = self._run
        if run is None or self._again or run.item is not item:
            return (yield)
        run.in_call = True  # reports made meanwhile are those of subtests
        try:
            with run.peak if run.wants_peak else contextlib.nullcontext():
                result = yield
        finally:
            run.in_call = False
        if run.plan.fail_on:
            self._leftovers.call_is_over()
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Judge a test that has passed, before its report is made."""
        run = self._run
        sections: list[Any] = []
        is_call = call.when == "call" and not self._again
        # A unittest.TestCase reports its failure to the item, and raises nothing.
        has_passed = call.excinfo is None and not getattr(item, "_excinfo", None)
        if run is not None and run.item is item and is_call and has_passed and not run.in_call:
            run.has_passed = True
            began = time.perf_counter()
            try:
                self._judge(run, sections)
            except pytest.fail.Exception:
                call.excinfo = pytest.ExceptionInfo.from_current()
            except pytest.exit.Exception:
                raise
            except Exception as error:  # noqa: BLE001 - reason: otherwise our fault would end the session
                run.note("not_measured", f"memguard failed: {type(error).__name__}: {error}"[:300])
            took = time.perf_counter() - began
            call.duration += took
            call.stop += took
        made = yield
        getattr(item, "_report_sections", []).extend(sections)
        return made

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        """Look at what is left, and raise what the teardown has raised that took place early."""
        result = yield
        run = self._run
        if run is None or self._again or run.item is not item:
            return result
        if run.torn_down is not None:
            raise run.torn_down
        left = [*run.left, *self._left(run)]
        if left:
            run.note("left_behind", "; ".join(row.splitlines()[0] for row in left[:10]))
            pytest.fail(report.left_behind(left, what="this test"), pytrace=False)
        return result

    def _left(self, run: _Run) -> list[str]:
        """Return what *run* has left behind; a test that fails may well not have come to it."""
        return self._leftovers.found() if run.plan.fail_on and run.has_passed else []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any]
    ) -> Generator[None, object, object]:
        """Let a fixture of wider scope have what it starts."""
        if not self._is_watching or fixturedef.scope == "function":
            return (yield)
        before = self._leftovers.fixture_begins()
        result = yield
        self._leftovers.fixture_is_up(_name_of(fixturedef), before)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """Take note that a fixture is gone, and of the tasks that are still there."""
        if self._is_watching:
            self._leftovers.fixture_is_down(_name_of(fixturedef))
            self._leftovers.look_at_tasks()

    @property
    def _is_watching(self) -> bool:
        return self._run is not None and bool(self._run.plan.fail_on) and not self._again

    def _judge(self, run: _Run, sections: list[Any]) -> None:
        if run.unsupported is not None:
            run.note("not_measured", run.unsupported)
            return
        failures: list[str] = []
        is_over = run.wants_peak and self._is_over(run)
        if run.wants_leaks or is_over:
            try:
                with self._running_again(run, sections) as again:
                    if run.wants_leaks:
                        finding = self._count(run, again)
                        if finding is not None and finding.failure is not None:
                            failures.append(finding.failure)
                    if is_over:
                        failures.append(self._peak_failure(run, again))
            except RunFailedError as error:
                run.torn_down = error.__cause__
        if failures:
            pytest.fail("\n\n".join(failures), pytrace=False)

    @contextlib.contextmanager
    def _running_again(self, run: _Run, sections: list[Any]) -> Iterator[Again]:
        self._again = True
        try:
            with rehearsals(run.item) as again:
                sections += again.left
                run.left = self._left(run)
                yield again
        finally:
            self._again = False
        if run.plan.fail_on:
            self._leftovers.begin(run.plan.fail_on)

    def _is_over(self, run: _Run) -> bool:
        limit = run.plan.limit
        if run.tracer.is_lost or not tracing.is_on():
            run.note("not_measured", f"the peak: {TracingStoppedError()}")
            return False
        run.note("peak_bytes", run.peak.bytes)
        if limit is None or run.peak.bytes > limit:
            return limit is not None
        if not run.peak.is_exact:
            run.note(
                "not_measured",
                "the peak: a tracing session of other code had a higher one before",
            )
        return False

    def _peak_failure(self, run: _Run, again: Again) -> str:
        limit = run.plan.limit or 0
        noted = PeakLines(at_least=run.peak.bytes * NEAR)
        run.tracer.abandon()
        run.tracer.start(STACKS, to_photograph=False)
        try:
            with noted:
                again.run()
        except RunFailedError as error:
            lines = [
                f"  which lines hold it is not known: run again, it failed: {_summary_of(error)}"
            ]
        else:
            lines = noted.lines(self._runner_now())
        return report.exceeds(run.peak.bytes, limit, lines, what="this test")

    def _count(self, run: _Run, again: Again) -> Finding | None:
        plan = run.plan
        refused = _refusal(run.item)
        if refused is None:
            try:
                finding = count_leaks(
                    again.run,
                    run.tracer,
                    self._runner_now(),
                    allowed=plan.leaks or 0,
                    warmup=plan.warmup,
                    repeat=plan.repeat,
                    done=1,
                )
            except RunFailedError as error:
                refused = f"it passes once, and fails when it is run again: {_summary_of(error)}"
            except TracingStoppedError as stopped:
                refused = str(stopped)
            else:
                run.note("bytes_per_run", finding.bytes_per_run)
                run.note("runs", finding.runs)
                return finding
        run.note("not_measured", refused)
        if plan.demanded:
            pytest.fail(f"memguard: this test cannot be measured for leaks: {refused}", False)
        return None

    def check(self) -> Check:
        """Return what the fixture ``memguard_check`` is."""
        return Check(self._runner_now(), self._settings)

    def _runner_now(self) -> Runner:
        if self._runner is None:
            plugins = self._config.pluginmanager.list_plugin_distinfo()
            self._runner = Runner(plugin for plugin, _ in plugins)
        return self._runner


def _refusal(item: pytest.Item) -> str | None:
    """Return why *item* must not be run again, or None."""
    if "subtests" in getattr(item, "fixturenames", ()):
        return "it reports subtests, which would be reported for each run"
    return None


def _name_of(fixturedef: pytest.FixtureDef[Any]) -> str:
    return f"{fixturedef.baseid}::{fixturedef.argname}" if fixturedef.baseid else fixturedef.argname


def _summary_of(error: RunFailedError) -> str:
    cause = error.__cause__
    lines = str(cause).strip().splitlines() or [""]
    return f"in its {error.phase}: {type(cause).__name__}: {lines[0][:200]}"
