"""Messages by e-mail to a real SMTP server on loopback, and to some that are none."""

from __future__ import annotations

import contextlib
import email
import email.policy
import logging
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from memguard.lifecycle.failures import Failures
from memguard.report.alerting import DeliveryError, MailSink, delivery
from memguard.report.alerting.connection import MOST_ANSWER, Connection
from memguard.report.alerting.delivery import DeliveryQueue, RetryPolicy
from tests.alerting import PATIENCE, Conversation, hang, notice, reset, rogue
from tests.waiting import wait_for

QUICK = RetryPolicy(queue=20, first_pause=0.01, longest_pause=0.05, give_up=60.0)
PASSWORD = "a SECRET pass"  # noqa: S105 - reason: of a server that this test makes


@pytest.fixture(autouse=True)
def no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "LINGER_SECONDS", 0.05)


class Post:
    """What the server took, and what it says to each command."""

    def __init__(self, *answers: str) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.answers = list(answers)
        self.refused: dict[str, str] = {}

    async def handle_RCPT(  # noqa: N802 - reason: the name that aiosmtpd calls
        self,
        server: Any,
        session: Any,
        envelope: Any,
        address: str,
        options: Any,
    ) -> str:
        del server, session, options
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - reason: the name that aiosmtpd calls
        del server, session
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            found = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(found, EmailMessage)
            self.mails.append(found)
            self.recipients.append(list(envelope.rcpt_tos))
        return answer


class Office(Controller):
    """aiosmtpd on a socket that is bound already, so that nobody else can take its port."""

    def __init__(self, post: Post, listener: socket.socket, **options: Any) -> None:
        host, port = listener.getsockname()
        super().__init__(post, hostname=host, port=port, ready_timeout=PATIENCE, **options)
        self._listener = listener

    def _create_server(self) -> Any:
        return self.loop.create_server(
            self._factory_invoker, sock=self._listener, ssl=self.ssl_context
        )


def bound() -> socket.socket:
    """Return a socket that has a port: who connects to it is refused until it listens."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    return listener


@contextlib.contextmanager
def serving(post: Post, listener: socket.socket | None = None, **options: Any) -> Iterator[int]:
    """Run aiosmtpd for *post*; yield its port."""
    office = Office(post, listener or bound(), **options)
    office.start()
    try:
        yield office.port
    finally:
        office.stop()


def sink_to(port: int, **changes: Any) -> MailSink:
    options: dict[str, Any] = {
        "sender": "guard@example.org",
        "recipients": ["ops@example.org", "me@example.org"],
        "security": "none",
        "port": port,
    }
    return MailSink("localhost", **{**options, **changes})


def send(sink: MailSink, timeout: float = 20.0) -> None:
    wire = Connection(timeout)
    try:
        sink.deliver(notice(), wire)
    finally:
        wire.release()


def refusal(sink: MailSink, timeout: float = 20.0) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        send(sink, timeout)
    return caught.value


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


def test_a_mail_arrives_at_all_recipients() -> None:
    post = Post()
    with serving(post) as port:
        send(sink_to(port))
    (mail,) = post.mails
    assert post.recipients == [["ops@example.org", "me@example.org"]]
    assert mail["Subject"] == "[critical] memory_used: shop on web-1"
    assert mail["From"] == "guard@example.org"
    assert mail["Date"]
    assert mail.get_content().startswith("number 1")


def test_what_the_server_has_no_time_for_is_tried_again(lane_to: Make) -> None:
    post = Post("451 later", "421 going down")
    with serving(post) as port:
        lane = lane_to(sink_to(port))
        lane.put(notice(1))
        lane.put(notice(2))
        assert lane.wait_empty(PATIENCE)
    assert [mail["Message-ID"] for mail in post.mails] == [
        f"<memguard.{1:016x}@example.org>",
        f"<memguard.{2:016x}@example.org>",
    ]
    assert (lane.statistics().sent, lane.statistics().retried) == (2, 2)


def test_what_the_server_refuses_for_good_is_not_tried_again(lane_to: Make) -> None:
    post = Post("554 SECRET spam")
    with serving(post) as port:
        lane = lane_to(sink_to(port))
        lane.put(notice(1))
        lane.put(notice(2))
        assert lane.wait_empty(PATIENCE)
    assert (lane.statistics().sent, lane.statistics().failed) == (1, 1)
    assert lane._failures.kinds == (("mail (SMTPDataError 554): DeliveryError", 1),)


@pytest.mark.parametrize(("code", "retry"), [("550 nobody", False), ("450 greylisted", True)])
def test_recipients_that_are_refused_are_an_error_where_none_is_left(
    code: str,
    retry: bool,  # noqa: FBT001 - reason: a column of the table
) -> None:
    post = Post()
    post.refused = {"ops@example.org": "550 nobody"}
    with serving(post) as port:
        send(sink_to(port))
        assert post.recipients == [["me@example.org"]]
        post.refused["me@example.org"] = code
        assert refusal(sink_to(port)).retry is retry


def test_a_dead_server_loses_nothing_once_it_is_back(lane_to: Make) -> None:
    listener = bound()
    lane = lane_to(sink_to(listener.getsockname()[1]))
    for number in range(3):
        lane.put(notice(number))
    wait_for(lambda: lane.statistics().retried >= 2)
    assert lane.statistics().last_error == "ConnectionRefusedError"
    post = Post()
    with serving(post, listener):
        assert lane.wait_empty(PATIENCE)
    assert len(post.mails) == 3


def flood(peer: socket.socket, over: threading.Event) -> None:
    """Greet without an end: smtplib alone would keep every line of it."""
    while not over.is_set():
        peer.sendall(b"220-welcome welcome welcome\r\n" * 1000)


def drip(peer: socket.socket, over: threading.Event) -> None:
    while not over.wait(0.02):
        peer.sendall(b"2")


@pytest.mark.parametrize(
    "converse",
    [
        hang,
        drip,
        flood,
        lambda peer, _: peer.close(),
        lambda peer, _: peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n"),
        lambda peer, _: peer.sendall(b"\x00\xff\r\n"),
        lambda peer, _: peer.sendall(b"554 go away\r\n"),
    ],
    ids=["hangs", "drips", "floods", "closes", "speaks http", "speaks noise", "sends us away"],
)
def test_one_that_misbehaves_is_an_error_in_time(converse: Conversation) -> None:
    with rogue(converse) as port:
        wire = Connection(0.5)
        with pytest.raises(DeliveryError):
            sink_to(port).deliver(notice(), wire)
        assert wire._read <= MOST_ANSWER + 8192
        wire.release()


def test_one_that_resets_in_the_middle_is_an_error_in_time() -> None:
    def greet_and_reset(peer: socket.socket, over: threading.Event) -> None:
        peer.sendall(b"220 hello\r\n")
        reset(peer, over)

    with rogue(greet_and_reset) as port:
        assert refusal(sink_to(port), timeout=10.0).retry


def test_a_conversation_that_hangs_can_be_cut(lane_to: Make) -> None:
    with rogue(hang) as port:
        lane = lane_to(sink_to(port, timeout=250.0))
        lane.put(notice())
        wait_for(lambda: lane._connection is not None and lane._connection._handle is not None)
        lane.finish(0.0)
        lane.cut()
        assert lane.join(PATIENCE)
    assert lane.statistics().dropped == 1


def test_a_mail_that_was_accepted_is_not_sent_again_because_the_farewell_hangs(
    lane_to: Make,
) -> None:
    accepted: list[bytes] = []

    def accept_and_hang(peer: socket.socket, over: threading.Event) -> None:
        lines = peer.makefile("rb")
        peer.sendall(b"220 hello\r\n")
        for line in lines:
            command = line[:4].upper()
            if command == b"DATA":
                peer.sendall(b"354 go\r\n")
                while (line := lines.readline()) != b".\r\n":
                    accepted.append(line)
                # From here on it is soon too late, however long the way to here took.
                assert lane._connection is not None
                lane._connection._deadline = time.monotonic() + 3.0
                peer.sendall(b"250 taken\r\n")
            elif command == b"QUIT":
                over.wait(PATIENCE)
                return
            else:
                peer.sendall(b"250 fine\r\n")

    with rogue(accept_and_hang) as port:
        lane = lane_to(sink_to(port, timeout=250.0))
        lane.put(notice())
        assert lane.wait_empty(PATIENCE)
    assert (lane.statistics().sent, lane.statistics().retried) == (1, 0)
    assert sum(line.startswith(b"Message-ID") for line in accepted) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, signed by itself, with its key in one file."""
    place = tmp_path_factory.mktemp("tls")
    key, cert = place / "key.pem", place / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
    command += f"-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    cert.write_bytes(cert.read_bytes() + key.read_bytes())
    return cert


def authenticated(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> Any:
    del server, session, envelope, mechanism
    return AuthResult(success=data.password == PASSWORD.encode(), handled=False)


class TestTls:
    @pytest.fixture
    def server_side(self, certificate: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

    @pytest.fixture
    def client_side(self, certificate: Path) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=certificate)

    def test_starttls_and_login(
        self, server_side: ssl.SSLContext, client_side: ssl.SSLContext
    ) -> None:
        post = Post()
        options: dict[str, Any] = {"require_starttls": True, "authenticator": authenticated}
        options["auth_required"] = True
        with serving(post, tls_context=server_side, **options) as port:
            given = {"security": "starttls", "context": client_side, "username": "me"}
            send(sink_to(port, password=PASSWORD, **given))
            wrong = refusal(sink_to(port, password="wrong SECRET", **given))  # noqa: S106 - reason: it is refused
        assert len(post.mails) == 1
        assert (wrong.why, wrong.retry) == ("SMTPAuthenticationError 535", False)

    def test_tls_from_the_first_byte(
        self, server_side: ssl.SSLContext, client_side: ssl.SSLContext
    ) -> None:
        post = Post()
        with serving(post, ssl_context=server_side) as port:
            send(sink_to(port, security="tls", context=client_side))
        assert len(post.mails) == 1

    def test_nothing_is_sent_in_clear_where_tls_was_asked_for(
        self, client_side: ssl.SSLContext, caplog: pytest.LogCaptureFixture
    ) -> None:
        post = Post()
        with caplog.at_level(logging.DEBUG), serving(post) as port:
            error = refusal(sink_to(port, security="starttls", context=client_side))
        assert not error.retry
        assert error.why == "the server does not offer what is needed"
        assert post.mails == []

    def test_a_certificate_that_nobody_trusts_is_refused(self, server_side: ssl.SSLContext) -> None:
        post = Post()
        with serving(post, tls_context=server_side) as port:
            error = refusal(sink_to(port, security="starttls"))
        assert error.why == "the certificate is not trusted"
        assert post.mails == []
