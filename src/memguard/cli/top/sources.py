"""
Where ``memguard top`` reads the state of a guard: a file of this machine, or a URL.

For the URL of a process that serves memguard's health routes, ``/health/memory`` is fetched. The
server is not trusted: no redirect is followed, no more is read than the longest valid report, and
each field is checked.
"""

from __future__ import annotations

import io
import math
import time
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

from memguard.errors import ConfigError, ReportFormatError
from memguard.report.health.health_report import HealthReport
from memguard.report.publish import process_status, reader
from memguard.report.publish.process_status import MOST_BYTES, STATUS_VERSION, ProcessStatus
from memguard.schema import read

_ROUTE = "/health/memory"
_TIMEOUT = 5.0
"""Seconds that each step of an answer may take."""
_DEADLINE = 10.0
"""Seconds for all of it, status line and headers too, however slowly they drip."""
_WITHIN = 5.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class NoGuardError(Exception):
    """There is no guard to show; the message names what was looked for and what to do."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A status, and how old it is in seconds."""

    status: ProcessStatus
    age: float


class Source(Protocol):
    """A guard that is read again and again."""

    def read(self) -> Snapshot:
        """
        Return the latest snapshot.

        Raises:
            NoGuardError: There are none, and there will be none.
        """


@dataclass(frozen=True, slots=True)
class FileSource:
    """The guard of a process of this machine, by its file."""

    directories: Sequence[Path]
    pid: int
    guard: str | None = None
    """Its name; None takes the first one of the process."""

    def read(self) -> Snapshot:
        """Return what the file says now."""
        found = reader.look(self.directories, pid=self.pid)
        for one in found.guards:
            if self.guard in (None, one.status.health.guard):
                age = time.time() - one.status.health.time_seconds
                return Snapshot(one.status, max(0.0, age) if math.isfinite(age) else 0.0)
        raise NoGuardError("\n".join((self._missing(), *found.troubles)))

    def _missing(self) -> str:
        named = "" if self.guard is None else f" named {self.guard!r:.60}"
        return (
            f"process {self.pid} has no guard{named} that publishes, or has ended; start it with "
            "MEMGUARD_PUBLISH=1, MemoryGuard(publish=True) or 'memguard run'"
        )


def choose(directories: Sequence[Path], pid: int | None, guard: str | None) -> FileSource:
    """
    Return the requested source; without a request, that of the only process.

    Raises:
        NoGuardError: There is none, or there are several.
    """
    if pid is not None:
        source = FileSource(directories, pid, guard)
        source.read()
        return source
    found = reader.look(directories)
    guards = [one for one in found.guards if guard in (None, one.status.health.guard)]
    pids = sorted({one.status.health.process_id for one in guards})
    if len(pids) == 1:
        return FileSource(directories, pids[0], guard)
    if pids:
        listed = ", ".join(map(str, pids[:20]))
        raise NoGuardError(f"several processes publish: {listed}; give one, or --list")
    looked = ", ".join(map(str, directories))
    missing = (
        f"no process publishes in {looked}; start one with MEMGUARD_PUBLISH=1, "
        "MemoryGuard(publish=True) or 'memguard run'"
    )
    raise NoGuardError("\n".join((missing, *found.troubles)))


class UrlSource:
    """
    The guard of a process that answers over HTTP.

    A process that no longer answers is shown as it was, with the age of that.

    Bounded by: one answer of 256 KiB, some seconds of waiting.
    Locks: none; for one thread.
    Keeps alive: the last answer.

    Args:
        url: Where the health routes are mounted, or one of them.
        token: What ``read_token`` asks for; goes nowhere but there.
        timer: Monotonic seconds.

    Raises:
        ConfigError: *url* is not an HTTP or HTTPS URL, or *token* does not fit into a header.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = address(url)
        self._headers = {"Accept": "application/json"}
        if token is not None:
            if not all("!" <= character <= "~" for character in token):
                raise ConfigError("MEMGUARD_TOKEN must be printable ASCII without spaces")
            self._headers["X-Memguard-Token"] = token
        self._timer = timer
        self._last: tuple[float, ProcessStatus] | None = None
        self._ends = 0.0
        self._opener = _opener(self._url, self._left)

    def read(self) -> Snapshot:
        """
        Return what the process answers now, or else what it answered last.

        Raises:
            NoGuardError: It has never answered; the message says what came instead.
        """
        try:
            found = self._ask()
        except NoGuardError:
            if self._last is None:
                raise
            at, found = self._last
            return Snapshot(found, self._timer() - at)
        self._last = (self._timer(), found)
        return Snapshot(found, 0.0)

    def _ask(self) -> ProcessStatus:
        import http.client  # noqa: PLC0415 - reason: see _opener
        import urllib.error  # noqa: PLC0415 - reason: see _opener
        import urllib.request  # noqa: PLC0415 - reason: see _opener

        self._ends = self._timer() + _DEADLINE
        request = urllib.request.Request(self._url, headers=self._headers)  # noqa: S310 - reason: http and https only, see address()
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as response:
                content = self._body(response)
            report = read(HealthReport, process_status.load(content), "health")
        except urllib.error.HTTPError as error:
            error.close()
            hint = {
                401: "; the token belongs into MEMGUARD_TOKEN",
                404: "; memguard's health routes are not served there",
            }
            self._refuse(f"it answers {error.code}{hint.get(error.code, '')}")
        except urllib.error.URLError as error:
            self._refuse(str(error.reason))
        except ReportFormatError as error:
            self._refuse(f"the response is not a health report of this memguard: {error}")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._refuse(str(error) or type(error).__name__)
        return status_from(report, urllib.parse.urlsplit(self._url).netloc)

    def _body(self, response: Any) -> bytes:
        content = b""
        while len(content) <= MOST_BYTES:
            part = response.read1(65536)
            if not part:
                break
            content += part
        return content

    def _left(self) -> float:
        """Return the seconds that the next read may take."""
        left = self._ends - self._timer()
        if left <= 0:
            raise TimeoutError("the response takes too long")
        return min(left, _TIMEOUT)

    def _refuse(self, why: str) -> NoReturn:
        raise NoGuardError(f"{self._url}: {why}") from None


class _Timed(io.RawIOBase):
    """The bytes of a socket; each read may take what is left, whoever reads."""

    def __init__(self, sock: Any, left: Callable[[], float]) -> None:
        super().__init__()
        self._sock = sock
        self._raw = sock.makefile("rb", 0)
        self._left = left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._left())
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _opener(url: str, left: Callable[[], float]) -> Any:
    # Imported here: http and ssl weigh megabytes, and 'memguard run' loads this into the program.
    import http.client  # noqa: PLC0415 - reason: see above
    import urllib.request  # noqa: PLC0415 - reason: see above

    class Response(http.client.HTTPResponse):
        """Reads status line and headers, as the body, within what is left."""

        def __init__(self, sock: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(sock, *arguments, **options)
            self.fp.close()
            self.fp = io.BufferedReader(_Timed(sock, left))

    def timed(connection_of: Any) -> Any:
        def connect(*arguments: Any, **options: Any) -> Any:
            connection = connection_of(*arguments, **options)
            connection.response_class = Response
            return connection

        return connect

    class Plain(urllib.request.HTTPHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            return super().do_open(timed(http_class), req, **options)

    class Secure(urllib.request.HTTPSHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            return super().do_open(timed(http_class), req, **options)

    class NoRedirection(urllib.request.HTTPRedirectHandler):
        """A token must go nowhere but to its receiver."""

        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    handlers: list[urllib.request.BaseHandler] = [NoRedirection(), Plain(), Secure()]
    if urllib.parse.urlsplit(url).hostname in _LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))  # no proxy knows our own machine
    return urllib.request.build_opener(*handlers)


def address(url: str) -> str:
    """
    Return where ``/health/memory`` is, given where the health routes are mounted.

    >>> address("http://127.0.0.1:8000/ops/")
    'http://127.0.0.1:8000/ops/health/memory'

    Raises:
        ConfigError: It is not an HTTP or HTTPS URL.
    """
    wrong = f"--url must be like http://127.0.0.1:8000/ops (got {url[:80]!r})"
    try:
        parts = urllib.parse.urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        raise ConfigError(wrong) from None
    if "@" in parts.netloc:
        raise ConfigError("--url must hold no user or password; a token goes into MEMGUARD_TOKEN")
    if not known or any(character <= " " or character > "~" for character in url):
        raise ConfigError(wrong)
    path = parts.path.rstrip("/").removesuffix("/memguard").removesuffix(_ROUTE) + _ROUTE
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def status_from(report: HealthReport, where: str) -> ProcessStatus:
    """Return *report* as a status; what it does not have is empty."""
    return ProcessStatus(
        version=STATUS_VERSION,
        memguard="",
        python="",
        program=where,
        within=_WITHIN,
        curve_seconds=(),
        curve_bytes=(),
        health=report,
    )
