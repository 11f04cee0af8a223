"""
Run a test again, whole: its function-scoped fixtures, the test, and their teardown.

That is what a leak of a test is measured by: what it has built for itself is gone when it is torn
down; fixtures of wider scope stay, as they do between two tests. All hooks of the phases run, so
that other plugins take part; these runs are not reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest


class RunFailedError(Exception):
    """A run after the first one did not pass; the cause is what it raised."""

    def __init__(self, phase: str, cause: BaseException) -> None:
        super().__init__(phase)
        self.phase = phase
        self.__cause__ = cause


@contextmanager
def rehearsals(item: pytest.Item) -> Iterator[Again]:
    """
    Leave the run of *item* that has just been called, to run it again; then come back.

    To be entered between two phases, after the call. The teardown of that run takes place here. In
    the end *item* is set up once more without its fixtures, so that its teardown has something to
    tear down.

    Raises:
        RunFailedError: The teardown failed.
    """
    again = Again(item)
    with warnings.catch_warnings(record=True) as caught:  # else each run's are kept for the summary
        again.caught = caught
        try:
            again.leave()
            yield again
        except (KeyboardInterrupt, SystemExit, GeneratorExit, pytest.exit.Exception):
            raise  # the session is over, and tears down whatever is up
        except BaseException:
            again.come_back()
            raise
        again.come_back()


class Again:
    """
    One item, run again and again.

    Bounded by: nothing is kept of a run.
    Locks: none; pytest's own thread.
    Keeps alive: the item.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._sections: list[Any] = getattr(item, "_report_sections", [])
        self._sections_before = len(self._sections)
        self._properties_before = len(item.user_properties)
        self.caught: list[warnings.WarningMessage] | None = None
        self.left: list[Any] = []
        """Sections of the report that the teardown of the ordinary run has written."""

    def leave(self) -> None:
        """Tear the ordinary run down."""
        self._phase("teardown", nextitem=self._item.parent)
        self.left = self._sections[self._sections_before :]
        self._forget()

    def run(self) -> None:
        """
        Run the test once more, from setup to teardown.

        Raises:
            RunFailedError: It did not pass; it was torn down nevertheless.
        """
        item = self._item
        _begin(item)
        subtests = _Subtests()
        if hasattr(item, "addSubTest"):  # it would report each of them, each time
            vars(item)["addSubTest"] = subtests.note
        try:
            try:
                self._phase("setup")
                self._phase("call")
            finally:
                self._phase("teardown", nextitem=item.parent)
        finally:
            vars(item).pop("addSubTest", None)
            self._forget()
        if subtests.failure is not None:
            raise RunFailedError("call", subtests.failure)

    def come_back(self) -> None:
        """Set the item up without its fixtures, for the teardown that is to come."""
        item = self._item
        _begin(item)
        vars(item).update(setup=_nothing, teardown=_nothing)
        try:
            self._phase("setup")
        finally:
            del vars(item)["setup"], vars(item)["teardown"]
            del self._sections[self._sections_before :]

    def _phase(self, phase: Literal["setup", "call", "teardown"], **options: Any) -> None:
        item = self._item
        hook = getattr(item.ihook, f"pytest_runtest_{phase}")
        call = pytest.CallInfo.from_call(
            lambda: hook(item=item, **options),
            when=phase,
            reraise=(pytest.exit.Exception, KeyboardInterrupt),
        )
        # Plugins, pytest's own tmp_path among them, take notes at the report of each phase.
        item.ihook.pytest_runtest_makereport(item=item, call=call)
        if call.excinfo is not None:
            raise RunFailedError(phase, call.excinfo.value)

    def _forget(self) -> None:
        """Let go of what the run has left in the item, as pytest does after its last phase."""
        item = self._item
        del self._sections[self._sections_before :]
        del item.user_properties[self._properties_before :]
        if hasattr(item, "_request"):
            vars(item).update(_request=False, funcargs=None)
        if self.caught is not None:
            self.caught.clear()


class _Subtests:
    """Takes what a unittest.TestCase says of its subtests, and remembers the first failure."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None

    def note(self, _case: Any, _subtest: Any, exc_info: Any) -> None:
        if exc_info is not None and self.failure is None:
            self.failure = exc_info[1] if isinstance(exc_info, tuple) else exc_info.value


def _begin(item: pytest.Item) -> None:
    """Give *item* a fresh request, and a fresh instance if it is a method."""
    kept = vars(item)
    instance = getattr(kept.get("_obj"), "__self__", None)
    if instance is not None and kept.get("_instance", instance) is instance:
        del kept["_obj"]  # if pytest is older than 8.2, all there is
        kept.pop("_instance", None)
    # What pytest's own runner does with an item that has been run before.
    begin = getattr(item, "_initrequest", None)
    if begin is not None and not kept.get("_request"):
        begin()


def _nothing() -> None:
    pass
