"""
The pytest plugin: ``@pytest.mark.memguard(...)``, ``memguard_check`` and the options.

Every pytest where memguard is installed loads this module. So it only declares what there is; the
rest is imported when an option, a marker or a fixture asks for it. See ``docs/pytest.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from memguard.integrations.testing import PREFIX

try:
    import pytest
except ImportError:
    from memguard.extras import missing

    raise missing("pytest", "pytest") from None

_MARKER = (
    "memguard(limit=None, leaks=None, warmup=2, repeat=5, fail_on=None): "
    "fail the test when its memory rises by more than limit, when more than leaks survive each of "
    "its runs, or when it leaves behind what fail_on names."
)
_ON_THE_COMMAND_LINE = {
    "leaks": (
        "WARMUP:RUNS",
        "run every test WARMUP + RUNS times and fail those that leak; try 2:5; 'off' disables it",
    ),
    "leaks-limit": (
        "SIZE",
        "what may survive each run, for tests without a limit of their own (1KiB)",
    ),
    "limit": ("SIZE", "how far memory may rise in tests without a limit, like 200MiB"),
    "fail-on": (
        "KINDS",
        "fail tests that leave these behind: threads, tasks, timers, listeners, pools, or all",
    ),
}
_OPTIONS = ("leaks", "leaks_limit", "limit", "fail_on", "grace", "ignore_threads")
_SESSION = "memguard-session"
_SUMMARY = "memguard-summary"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of the command line and of the ini file."""
    group = parser.getgroup("memguard", "memory (memguard)")
    for name, (metavar, help_text) in _ON_THE_COMMAND_LINE.items():
        group.addoption(f"--memguard-{name}", metavar=metavar, help=help_text)
        parser.addini(f"memguard_{name.replace('-', '_')}", f"as --memguard-{name}", default="")
    parser.addini("memguard_grace", "time for what is ending to end, like 2s", default="")
    patterns = "patterns of names of threads that may stay"
    parser.addini("memguard_ignore_threads", patterns, type="linelist", default=[])


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, and begin to measure if all tests are checked."""
    config.addinivalue_line("markers", _MARKER)
    config.pluginmanager.register(_Summarizing(), _SUMMARY)
    given = _given(config)
    if any(given[name] for name in ("leaks", "limit", "fail_on")):
        _load(config, given)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin to measure if a test asks for it."""
    if not config.pluginmanager.has_plugin(_SESSION) and any(
        item.get_closest_marker("memguard") is not None for item in items
    ):
        _load(config, _given(config))


def _given(config: pytest.Config) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name in _OPTIONS:
        option = config.getoption(f"memguard_{name}", None)
        given[name] = config.getini(f"memguard_{name}") if option is None else option
    return given


@pytest.fixture
def memguard_check(request: pytest.FixtureRequest) -> Iterator[Any]:
    """
    Checks a part of a test: what it keeps, what it needs at once, what it leaves behind.

    See ``memguard.integrations.testing.check.Check``.
    """
    plugins = request.config.pluginmanager
    if not plugins.has_plugin(_SESSION):
        _load(request.config, _given(request.config))
    session: Any = plugins.get_plugin(_SESSION)
    check = session.check()
    yield check
    check.close()


class _Summarizing:
    """Collects the properties of the reports, those of other processes too, for the summary."""

    def __init__(self) -> None:
        self._summary: Any = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take our properties from the last report of each test."""
        if report.when != "teardown" or not report.user_properties:
            return
        found = {
            name: value for name, value in report.user_properties if str(name).startswith(PREFIX)
        }
        if found:
            if self._summary is None:
                from memguard.integrations.testing.report import Summary  # noqa: PLC0415 - reason: see _load

                self._summary = Summary()
            self._summary.add(report.nodeid, found)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what was gathered."""
        if self._summary is not None:
            terminalreporter.section("memguard")
            for line in self._summary.lines():
                terminalreporter.line(line)


def _load(config: pytest.Config, given: dict[str, Any]) -> None:
    # Here and not above: most who load this module do not use it.
    from memguard.errors import ConfigError  # noqa: PLC0415 - reason: see above
    from memguard.integrations.testing.options import read_settings  # noqa: PLC0415 - reason: see above
    from memguard.integrations.testing.session import Measuring  # noqa: PLC0415 - reason: see above

    try:
        settings = read_settings(given)
    except ConfigError as error:
        raise pytest.UsageError(f"memguard: {error}") from None
    config.pluginmanager.register(Measuring(config, settings), _SESSION)
