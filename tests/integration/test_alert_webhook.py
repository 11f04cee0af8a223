"""Messages by HTTP to real receivers on loopback: those that behave, and those that do not."""

from __future__ import annotations

import contextlib
import http.server
import logging
import select
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from memguard.lifecycle.failures import Failures
from memguard.observe.readings import Detail, read_memory
from memguard.report.alerting import DeliveryError, SlackSink, WebhookSink, delivery
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.delivery import DeliveryQueue, RetryPolicy
from tests.alerting import (
    PATIENCE,
    Answer,
    Conversation,
    Receiver,
    drip,
    flood,
    hang,
    notice,
    reset,
    rogue,
    unused_port,
)
from tests.waiting import wait_for

QUICK = RetryPolicy(queue=20, first_pause=0.01, longest_pause=0.05, give_up=60.0)


@pytest.fixture(autouse=True)
def no_proxies_and_no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setattr(delivery, "LINGER_SECONDS", 0.05)


Make = Callable[..., DeliveryQueue]


@pytest.fixture
def lane_to() -> Iterator[Make]:
    made: list[DeliveryQueue] = []

    def make(sink: Any, patience: RetryPolicy = QUICK) -> DeliveryQueue:
        made.append(DeliveryQueue(sink, "memguard-test-lane", patience, Failures("alerts.failed")))
        return made[-1]

    yield make
    for lane in made:
        lane.cut()
        assert lane.join(PATIENCE)


def refusal(sink: WebhookSink, timeout: float = 20.0) -> DeliveryError:
    """Return how one attempt fails."""
    wire = Connection(timeout)
    try:
        with pytest.raises(DeliveryError) as caught:
            sink.deliver(notice(), wire)
    finally:
        wire.release()
    return caught.value


def test_a_message_arrives_as_json_with_its_headers() -> None:
    with Receiver() as receiver:
        sink = WebhookSink(receiver.url, headers={"Authorization": "Bearer x"})
        wire = Connection(20.0)
        sink.deliver(notice(), wire)
        wire.release()
    ((path, headers, body),) = receiver.requests
    assert path == "/hook/secret-path"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Bearer x"
    assert headers["User-Agent"].startswith("memguard/")
    assert body == notice().to_dict()


def test_a_payload_of_ones_own_and_slack_are_posted_as_they_are() -> None:
    with Receiver() as receiver:
        for sink in (
            WebhookSink(receiver.url, payload=lambda told: {"msg": told.title}),
            SlackSink(receiver.url),
        ):
            wire = Connection(20.0)
            sink.deliver(notice(), wire)
            wire.release()
    bodies = [body for _, _, body in receiver.requests]
    assert bodies[0] == {"msg": "[critical] memory_used: shop on web-1"}
    assert bodies[1]["attachments"][0]["text"] == "number 1"


def constant(value: object) -> Callable[[object], object]:
    return lambda _: value


def test_a_payload_that_is_too_long_or_no_json_is_not_sent() -> None:
    sink = WebhookSink("http://127.0.0.1:1/", payload=lambda _: "x" * 70_000)
    assert not refusal(sink).retry
    for payload in (float("nan"), object()):
        sink = WebhookSink("http://127.0.0.1:1/", payload=constant(payload))
        with pytest.raises((TypeError, ValueError)):
            sink.deliver(notice(), Connection(1.0))


@pytest.mark.parametrize(
    ("answer", "why", "retry", "after"),
    [
        (Answer(500), "HTTP 500", True, None),
        (Answer(503, {"Retry-After": "7"}), "HTTP 503", True, 7.0),
        (Answer(429, {"Retry-After": "3"}), "HTTP 429", True, 3.0),
        (Answer(429, {"Retry-After": "nonsense"}), "HTTP 429", True, None),
        (Answer(400, {}, b"invalid_payload"), "HTTP 400 invalid_payload", False, None),
        (Answer(403, {}, b"Token SECRET is wrong"), "HTTP 403", False, None),
        (Answer(404, {"Retry-After": "3"}, b"no_service\n"), "HTTP 404 no_service", False, None),
        (Answer(410), "HTTP 410", False, None),
    ],
)
def test_a_status_says_whether_to_try_again_and_when(
    answer: Answer,
    why: str,
    retry: bool,  # noqa: FBT001 - reason: a column of the table
    after: float | None,
) -> None:
    answer.body = b"" if answer.body == b"ok" else answer.body
    with Receiver(answer) as receiver:
        error = refusal(WebhookSink(receiver.url))
    assert (error.why, error.retry, error.after) == (why, retry, after)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_neither_to_files_nor_to_others(status: int) -> None:
    with Receiver() as other:
        for place in (other.url, "file:///etc/passwd", "ftp://127.0.0.1/x"):
            with Receiver(Answer(status, {"Location": place})) as receiver:
                error = refusal(WebhookSink(receiver.url, headers={"Authorization": "x"}))
            assert not error.retry
            assert error.why == f"HTTP {status}, redirects are not followed"
    assert other.requests == []


def test_five_hundred_then_two_hundred_is_a_delivery(lane_to: Make) -> None:
    with Receiver(Answer(500), Answer(502)) as receiver:
        lane = lane_to(WebhookSink(receiver.url))
        lane.put(notice(1))
        lane.put(notice(2))
        assert lane.wait_empty(PATIENCE)
    assert receiver.summaries == ["number 1", "number 1", "number 1", "number 2"]
    found = lane.statistics()
    assert (found.sent, found.retried, found.failed, found.dropped) == (2, 2, 0, 0)


def test_a_receiver_that_asks_for_time_is_left_alone_so_long(lane_to: Make) -> None:
    with Receiver(Answer(429, {"Retry-After": "1"})) as receiver:
        lane = lane_to(WebhookSink(receiver.url))
        lane.put(notice())
        assert lane.wait_empty(PATIENCE)
    first, second = receiver.times
    assert second - first >= 0.99


def test_a_refusal_for_good_holds_up_no_other_message(lane_to: Make) -> None:
    with Receiver(Answer(400)) as receiver:
        lane = lane_to(WebhookSink(receiver.url))
        for number in range(3):
            lane.put(notice(number))
        assert lane.wait_empty(PATIENCE)
    assert receiver.summaries == ["number 0", "number 1", "number 2"]
    assert (lane.statistics().sent, lane.statistics().failed) == (2, 1)


def test_a_dead_receiver_loses_nothing_once_it_is_back(lane_to: Make) -> None:
    """Nobody listens; then somebody does, and all of it arrives, in order."""
    port = unused_port()
    lane = lane_to(WebhookSink(f"http://127.0.0.1:{port}/"))
    for number in range(10):
        lane.put(notice(number))
    wait_for(lambda: lane.statistics().retried >= 2)
    assert lane.statistics().last_error == "ConnectionRefusedError"
    heard: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            assert lane.wait_empty(PATIENCE)
        finally:
            server.shutdown()
            thread.join()
    assert [f"number {n}".encode() in body for n, body in enumerate(heard)] == [True] * 10
    found = lane.statistics()
    assert (found.sent, found.dropped, found.failed) == (10, 0, 0)


@pytest.mark.parametrize(
    ("converse", "why"),
    [
        (hang, "timed out"),
        (drip, "timed out"),
        (flood, None),
        (reset, None),
        (lambda peer, _: peer.close(), None),
        (lambda peer, _: peer.sendall(b"\x00\xff not http\r\n\r\n"), None),
        (lambda peer, _: peer.sendall(b"HTTP/1.1 999999 x\r\n\r\n"), None),
    ],
    ids=["hangs", "drips", "floods", "resets", "closes", "speaks no http", "has no status"],
)
def test_one_that_misbehaves_is_an_error_in_time_and_worth_another_attempt(
    converse: Conversation, why: str | None
) -> None:
    with rogue(converse) as port:
        began = time.monotonic()
        error = refusal(WebhookSink(f"http://127.0.0.1:{port}/"), timeout=0.5)
        assert time.monotonic() - began < 15
    assert error.retry
    assert why is None or error.why == why


def test_one_that_never_accepts_is_an_error_in_time() -> None:
    """The system says yes to the connection; nobody ever reads."""
    with rogue(hang, accept=False) as port:
        assert refusal(WebhookSink(f"http://127.0.0.1:{port}/"), timeout=0.3).why == "timed out"


def test_an_answer_without_an_end_is_not_read_to_the_end() -> None:
    with Receiver(Answer(200, {}, b"x" * 50_000_000)) as receiver:
        wire = Connection(20.0)
        WebhookSink(receiver.url).deliver(notice(), wire)
        assert wire._read <= 64 * 1024
        wire.release()


def test_an_attempt_that_hangs_can_be_cut_from_outside(lane_to: Make) -> None:
    with rogue(hang) as port:
        lane = lane_to(WebhookSink(f"http://127.0.0.1:{port}/", timeout=250.0))
        lane.put(notice())
        wait_for(lambda: lane._connection is not None and lane._connection._handle is not None)
        lane.finish(time.monotonic())
        lane.cut()
        assert lane.join(PATIENCE)
    assert lane.statistics().dropped == 1


def open_files() -> int:
    files: tuple[Detail, ...] = ("files",)
    return read_memory(include=files).open_files or 0


def test_nothing_is_left_open() -> None:
    """Thirty failures later there are as many files as before."""
    with Receiver(*[Answer(500) for _ in range(20)]) as receiver, rogue(reset) as port:
        good, bad = WebhookSink(receiver.url), WebhookSink(f"http://127.0.0.1:{port}/")
        refusal(good)
        before = open_files()
        for _ in range(15):
            refusal(good)
            refusal(bad)
        wait_for(lambda: open_files() <= before + 2)


def test_no_secret_is_in_the_log(lane_to: Make, caplog: pytest.LogCaptureFixture) -> None:
    port = unused_port()
    url = f"http://127.0.0.1:{port}/T000/SECRET?key=SECRET"
    with caplog.at_level(logging.DEBUG):
        lane = lane_to(
            WebhookSink(url, headers={"Authorization": "SECRET"}),
            RetryPolicy(first_pause=0.01, give_up=0.1),
        )
        lane.put(notice())
        assert lane.wait_empty(PATIENCE)
        with Receiver(Answer(403, {}, b"SECRET")) as receiver:
            lane = lane_to(WebhookSink(receiver.url + "SECRET"))
            lane.put(notice())
            assert lane.wait_empty(PATIENCE)
    assert "alert.undelivered" in caplog.text
    assert "SECRET" not in caplog.text
    assert "SECRET" not in repr(lane.statistics())


class TestProxy:
    def test_the_proxy_of_the_environment_is_used_and_can_be_left_alone(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Receiver() as proxy, Receiver() as receiver:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
            for trust in (True, False):
                wire = Connection(20.0)
                WebhookSink(receiver.url, trust_env=trust).deliver(notice(), wire)
                wire.release()
        assert [path for path, _, _ in proxy.requests] == [receiver.url]
        assert [path for path, _, _ in receiver.requests] == ["/hook/secret-path"]

    def test_a_proxy_that_cannot_be_used_is_a_refusal_and_no_way_round_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Receiver() as receiver:
            monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
            error = refusal(WebhookSink(receiver.url))
        assert (error.why, error.retry) == ("the proxy's scheme is not supported", False)
        assert receiver.requests == []


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, signed by itself, with its key in one file."""
    place = tmp_path_factory.mktemp("tls")
    made = place / "both.pem"
    key, cert = str(place / "key.pem"), str(place / "cert.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    command += "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    made_by = [*command.split(), "-keyout", key, "-out", cert]
    subprocess.run(made_by, check=True, capture_output=True)
    made.write_bytes((place / "key.pem").read_bytes() + (place / "cert.pem").read_bytes())
    return made


class TestTls:
    @pytest.fixture
    def server(self, certificate: Path) -> Iterator[int]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.HTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass

        with Server(("127.0.0.1", 0), Handler) as server:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            yield server.server_address[1]
            server.shutdown()
            thread.join()

    def test_a_certificate_that_is_trusted_is_accepted_for_its_name_alone(
        self, server: int, certificate: Path
    ) -> None:
        context = ssl.create_default_context(cafile=certificate)
        wire = Connection(20.0)
        WebhookSink(f"https://localhost:{server}/", context=context).deliver(notice(), wire)
        wire.release()
        sink = WebhookSink(f"https://127.0.0.1:{server}/", context=context)
        assert refusal(sink).why == "the certificate is not trusted"

    def test_it_goes_through_the_proxy_of_the_environment(
        self, server: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The proxy sees a name and a port, and bytes that it cannot read."""
        asked: list[bytes] = []
        passed: list[bytes] = []

        def proxy(peer: socket.socket, over: threading.Event) -> None:
            while not asked or b"\r\n\r\n" not in asked[0]:
                asked[:] = [b"".join(asked) + peer.recv(4096)]
            peer.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", server)) as onward:
                while not over.is_set():
                    ready, _, _ = select.select([peer, onward], [], [], 0.05)
                    for end in ready:
                        data = end.recv(65536)
                        if not data:
                            return
                        passed.append(data)
                        (onward if end is peer else peer).sendall(data)

        context = ssl.create_default_context(cafile=certificate)
        with rogue(proxy) as port:
            monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
            wire = Connection(20.0)
            sink = WebhookSink(
                f"https://localhost:{server}/", context=context, headers={"Authorization": "SECRET"}
            )
            sink.deliver(notice(), wire)
            wire.release()
        assert asked[0].startswith(f"CONNECT localhost:{server} ".encode())
        assert b"SECRET" not in asked[0] + b"".join(passed)

    def test_a_proxy_that_hangs_or_drips_is_an_error_in_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for converse in (hang, drip, flood):
            with rogue(converse) as port:
                monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
                assert refusal(WebhookSink("https://localhost:1/"), timeout=0.3).retry

    def test_one_that_nobody_trusts_is_refused(self, server: int) -> None:
        error = refusal(WebhookSink(f"https://localhost:{server}/"))
        assert (error.why, error.retry) == ("the certificate is not trusted", True)

    def test_a_handshake_that_hangs_ends_in_time_and_can_be_cut(self, lane_to: Make) -> None:
        with rogue(hang) as port:
            sink = WebhookSink(f"https://localhost:{port}/", timeout=250.0)
            assert refusal(sink, timeout=0.3).why == "timed out"
            lane = lane_to(sink)
            lane.put(notice())
            wait_for(lambda: lane._connection is not None and lane._connection._handle is not None)
            lane.cut()
            assert lane.join(PATIENCE)


def test_the_next_address_of_a_name_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Localhost is ::1 and 127.0.0.1; where only one of them listens, it is found."""
    find = socket.getaddrinfo
    with Receiver() as receiver:
        dead = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", unused_port()))
        monkeypatch.setattr(
            socket, "getaddrinfo", lambda *args, **options: [dead, *find(*args, **options)]
        )
        wire = Connection(20.0)
        WebhookSink(receiver.url).deliver(notice(), wire)
        wire.release()
    assert len(receiver.requests) == 1


def test_a_name_that_does_not_exist_is_worth_another_attempt() -> None:
    error = refusal(WebhookSink("http://no-such-host.invalid/"))
    assert (error.why, error.retry) == ("gaierror", True)


def test_an_address_that_leads_nowhere_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A broken way over IPv6 answers nothing at all, not even that there is nobody."""
    with (
        Receiver() as receiver,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        contextlib.ExitStack() as others,
    ):
        for _ in range(3):  # now it takes no further connection, and does not say so
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(full.getsockname())
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", place)
            for place in (full.getsockname(), ("127.0.0.1", receiver.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        wire = Connection(10.0)  # half of it is for the first
        WebhookSink(receiver.url).deliver(notice(), wire)
        wire.release()
    assert len(receiver.requests) == 1
