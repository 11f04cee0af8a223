"""``memguard top --url`` against the real health routes on real servers, and against strangers."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memguard import BoundedCache, MemoryGuard
from memguard.cli import main
from memguard.cli.top.sources import NoGuardError, UrlSource, address, status_from
from memguard.errors import ConfigError
from memguard.report.health.asgi import HealthAsgi
from memguard.report.health.health_report import health
from memguard.report.health.wsgi import HealthWsgi
from memguard.report.publish.process_status import MOST_BYTES, encode
from tests.clock import FakeClock
from tests.serving import TOKEN, asgi_server, wsgi_server
from tests.waiting import wait_for


@pytest.fixture
def guard() -> Iterator[MemoryGuard]:
    with MemoryGuard(limit="100GiB", interval=0.02, leaks=False, name="served") as guard:
        wait_for(lambda: guard.level == "ok")
        yield guard


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_a_process_is_shown_by_its_health_routes(
    kind: str, guard: MemoryGuard, capsys: pytest.CaptureFixture[str]
) -> None:
    cache: BoundedCache[int, int] = BoundedCache(10, name="asked over http")
    cache[1] = 1
    served = asgi_server(HealthAsgi(guard)) if kind == "asgi" else wsgi_server(HealthWsgi(guard))
    with served as site:
        assert main(["top", "--url", site.url, "--once"]) == 0
        shown = capsys.readouterr().out
        assert shown.startswith(f"127.0.0.1:{site.port}, process ")
        assert "   guard served\n" in shown
        assert "asked over http  BoundedCache" in shown
        assert main(["top", "--url", f"{site.url}/memguard", "--once", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    assert found["health"]["level"] == "ok"
    assert found["health"]["memory"]["private_bytes"] > 0


def test_a_token_is_taken_from_the_environment(
    guard: MemoryGuard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with wsgi_server(HealthWsgi(guard, read_token=TOKEN)) as site:
        monkeypatch.delenv("MEMGUARD_TOKEN", raising=False)
        assert main(["top", "--url", site.url, "--once"]) == 1
        assert "it answers 401; the token belongs into MEMGUARD_TOKEN" in capsys.readouterr().err
        monkeypatch.setenv("MEMGUARD_TOKEN", TOKEN)
        assert main(["top", "--url", site.url, "--once"]) == 0
        assert TOKEN not in capsys.readouterr().out


def test_whoever_stops_answering_is_shown_as_he_was(
    guard: MemoryGuard, fake_clock: FakeClock
) -> None:
    with wsgi_server(HealthWsgi(guard)) as site:
        source = UrlSource(site.url, timer=fake_clock)
        first = source.read()
    fake_clock.advance(30.0)
    later = source.read()
    assert later.status == first.status
    assert (first.age, later.age) == (0.0, 30.0)


def test_a_report_becomes_a_status_like_any_other(guard: MemoryGuard) -> None:
    made = status_from(health(guard), "somewhere")
    encode(made)
    assert (made.health.guard, made.program, made.health.watching) == ("served", "somewhere", True)


@contextlib.contextmanager
def stranger(answer: bytes | Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve *answer* to everybody, as a server that is no friend."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(25)


def ok(body: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\n\r\n" + body


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ok(b"<html>"), "it must be JSON"),
        (ok(b"[]"), "is not a health report of this memguard"),
        (ok(b'{"level": "ok"}'), "missing"),
        (ok(b" " * (MOST_BYTES + 9)), "more than"),
        (b"HTTP/1.0 404 no\r\n\r\n", "memguard's health routes are not served there"),
        (b"HTTP/1.0 500 \x1b[2J\r\n\r\n", "it answers 500"),
        (b"\x00\x01\x02\r\n\r\n", "http://127.0.0.1"),
        (b"", "closed connection"),
    ],
)
def test_strangers_get_one_harmless_sentence(
    answer: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with stranger(answer) as url:
        assert main(["top", "--url", url, "--once"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert shown.err.rstrip("\n").isprintable()
    assert len(shown.err) < 600


def test_no_redirection_is_followed_with_a_token() -> None:
    asked: list[bytes] = []

    def note(connection: socket.socket) -> None:
        asked.append(b"asked")
        connection.sendall(ok(b"{}"))

    with stranger(note) as other:
        moved = f"HTTP/1.0 302 Found\r\nLocation: {other}/health/memory\r\n\r\n".encode()
        with stranger(moved) as url, pytest.raises(NoGuardError, match="it answers 302"):
            UrlSource(url, token=TOKEN).read()
    assert asked == []


def test_a_stranger_who_drips_is_given_up(fake_clock: FakeClock) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(ok(b""))
        while True:  # until it is hung up on
            connection.sendall(b" ")
            fake_clock.advance(1.0)

    with stranger(drip) as url, pytest.raises(NoGuardError, match="takes too long"):
        UrlSource(url, timer=fake_clock).read()


def test_nobody_there_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert main(["top", "--url", f"http://127.0.0.1:{port}"]) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "http://h/health/memory"),
        ("http://h:1/", "http://h:1/health/memory"),
        ("https://[::1]:8/ops/health/memory", "https://[::1]:8/ops/health/memory"),
        ("http://h/ops/memguard/", "http://h/ops/health/memory"),
        ("http://h/ops?x=1#top", "http://h/ops/health/memory?x=1"),
    ],
)
def test_the_route_is_found_from_where_it_is_mounted(url: str, expected: str) -> None:
    assert address(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:80",
        "file:///etc/passwd",
        "ftp://h",
        "http://",
        "http://h:99999",
        "http://h/\r\nX: y",
        "http://[::1",
        "http://user:secret@h/",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="--url must") as caught:
        address(url)
    assert "secret" not in str(caught.value)


@given(
    st.text(max_size=60)
    | st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "file", "ftp", "", "http:"]),
        st.sampled_from(["h", "[::1]", "[::", "u:p@h", "h:99999", "h:x", "", "h\x00", "ä", "%"]),
        st.text(max_size=20),
        st.sampled_from(["", "?", "#", "/health/memory", "\r\nX: y", "/../.."]),
    )
)
def test_any_text_is_an_address_or_is_refused_in_words(url: str) -> None:
    try:
        found = address(url)
    except ConfigError as error:
        said = str(error)
    else:
        assert found.startswith(("http://", "https://"))
        assert "/health/memory" in found
        UrlSource(url)  # is made, and asks nobody yet
        return
    assert len(said) < 300


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/",
        "http://h.invalid/",
        "http://127.0.0.1:65535/%00%ff/..",
        "http://127.0.0.1:1/?a=b#c",
        f"http://{'x' * 300}.invalid/",
        f"http://127.0.0.1:1/{'x' * 70_000}",
        "http://xn--.invalid/",
        "http://[fe80::1%25none]/",
        "http://..:1/",
    ],
)
def test_an_address_that_nobody_answers_ends_in_words(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    try:
        code: object = main(["top", "--url", url, "--once"])
    except SystemExit as exited:
        code = exited.code
    said = capsys.readouterr().err
    assert code in (1, 2)
    assert said
    assert "Traceback" not in said
    assert len(max(said.splitlines(), key=len)) < 500


@given(
    st.binary(max_size=200)
    | st.builds(
        b"HTTP/%b %b\r\n%b\r\n\r\n%b".__mod__,
        st.tuples(
            st.sampled_from([b"1.1", b"1.0", b"9", b""]),
            st.sampled_from([b"200 OK", b"200", b"304 x", b"999 x", b"-1 x", b"100 x", b""]),
            st.sampled_from(
                [
                    b"Content-Length: 5",
                    b"Content-Length: -5",
                    b"Content-Length: 99999999999999999999",
                    b"Transfer-Encoding: chunked",
                    b"Content-Encoding: gzip",
                    b"X: " + b"y" * 70_000,
                    b"\r\n".join([b"X: y"] * 150),
                    b"\xff\xfe: \x00",
                    b"",
                ]
            ),
            st.binary(max_size=60) | st.sampled_from([b"5\r\n{}\r\n0\r\n", b"zz\r\n", b"-1\r\n"]),
        ),
    )
)
@settings(max_examples=40, deadline=None)
def test_any_answer_is_refused_in_words(answer: bytes) -> None:
    with stranger(answer) as url, pytest.raises(NoGuardError) as caught:
        UrlSource(url).read()
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "arguments",
    [("--url", "http://h", "42"), ("--url", "http://h", "--list"), ("--url", "file:///x")],
)
def test_what_contradicts_itself_is_a_wrong_option(
    arguments: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["top", *arguments])
    assert caught.value.code == 2
    assert "--url" in capsys.readouterr().err
