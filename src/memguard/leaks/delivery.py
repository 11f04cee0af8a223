"""Hand a finding on: to a directory, to the log, to the application. None can stop the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from memguard.errors import ConfigError
from memguard.leaks.finding.findings import Finding
from memguard.leaks.options import OnError
from memguard.leaks.report import LeakReport
from memguard.lifecycle.failures import Failures
from memguard.report.sinks.directory import ReportDirectory


class Delivery:
    """
    Deliver findings.

    Bounded by: the directory's caps.
    Locks: none of its own; *on_leak* runs under none of ours.
    Keeps alive: *on_leak*.

    Raises:
        TypeError: *on_leak* is not callable, or *report_dir* is no path.
        ConfigError: *on_error* is unknown, or *report_dir* cannot be used.
    """

    def __init__(
        self,
        report_dir: str | os.PathLike[str] | None,
        on_leak: Callable[[LeakReport], object] | None,
        on_error: OnError,
        failures: Failures,
    ) -> None:
        if on_leak is not None and not callable(on_leak):
            raise TypeError(f"on_leak must be callable (got {type(on_leak).__name__})")
        if on_error not in ("log", "raise"):
            raise ConfigError(f"on_error must be 'log' or 'raise' (got {on_error!r})")
        if report_dir is not None and not isinstance(report_dir, str | os.PathLike):
            kind = type(report_dir).__name__
            raise TypeError(f"report_dir must be a string or a Path (got {kind})")
        self._directory = None if report_dir is None else ReportDirectory(report_dir)
        self._on_leak = on_leak
        self._on_error = on_error
        self._failures = failures

    @property
    def directory(self) -> str | None:
        """Where reports are written; None when they are not."""
        return None if self._directory is None else str(self._directory.path)

    def deliver(self, finding: Finding) -> None:
        """Write, log and announce *finding*; only a new leak is announced."""
        paths: tuple[Path, ...] = ()
        if self._directory is not None:
            try:
                paths = self._directory.write(finding.report)
            except Exception as error:  # noqa: BLE001 - reason: a full disk must not end the detector
                self._failures.add("write report", error)
        finding.log(paths)
        if self._on_leak is None or not finding.is_alarm:
            return
        try:
            self._on_leak(finding.report)
        except Exception as error:
            self._failures.add("on_leak", error)
            if self._on_error == "raise":
                raise
