"""Sinks without a network: what they make of a message, and what they refuse."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from memguard.errors import ConfigError
from memguard.lifecycle import private_directory
from memguard.report.alerting import (
    CallSink,
    DeliveryError,
    FileSink,
    LogSink,
    MailSink,
    SlackSink,
    WebhookSink,
    file_sink,
)
from memguard.report.alerting.connection import Connection
from memguard.report.alerting.notice import check_labels, fingerprint
from memguard.report.alerting.webhook import may_succeed_later, retry_after, slack_payload
from tests.alerting import MIB, notice

posix = pytest.mark.skipif(os.name != "posix", reason="modes and links are of POSIX")


def bad(value: Any) -> Any:
    """Mark what a type checker would refuse."""
    return value


def is_of(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:  # closed by now
        return False


def test_a_message_is_plain_json() -> None:
    found = json.loads(json.dumps(notice().to_dict(), allow_nan=False))
    assert found["time"] == "2023-11-14T22:18:20.000+00:00"
    assert found["ended_at"] is None
    assert found["facts"] == {"used": "900.0 MiB"}
    assert found["labels"] == {"env": "test"}
    assert notice().title == "[critical] memory_used: shop on web-1"
    assert notice(status="resolved").title.startswith("[resolved]")


def test_the_title_names_what_leaks() -> None:
    leak = notice(rule="leak_suspected", facts=(("what", "app.SEEN grows 33.0 MiB/min"),))
    assert leak.title == "[critical] leak_suspected: app.SEEN grows 33.0 MiB/min, shop on web-1"


def test_a_fingerprint_tells_parts_apart() -> None:
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"])
    assert fingerprint(["ab", "c"]) == fingerprint(["ab", "c"])
    assert len(fingerprint(["\udcff"])) == 16


@pytest.mark.parametrize(
    ("labels", "error"),
    [
        ([], TypeError),
        ({"a": 1}, TypeError),
        ({"": "x"}, ConfigError),
        ({"a": "x" * 201}, ConfigError),
        ({str(n): "" for n in range(21)}, ConfigError),
    ],
)
def test_wrong_labels_are_refused(labels: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_labels(labels)


class TestSlack:
    def test_it_has_a_title_a_colour_and_fields(self) -> None:
        found = slack_payload(notice())
        (attachment,) = found["attachments"]
        assert found["text"] == "[critical] memory_used: shop on web-1"
        assert attachment["color"] == "#dc2626"
        assert attachment["text"] == "number 1"
        assert attachment["fields"][0] == {"title": "used", "value": "900.0 MiB", "short": True}
        assert attachment["footer"] == "env=test"
        assert slack_payload(notice(status="resolved"))["attachments"][0]["color"] == "#16a34a"

    def test_nobody_is_called_by_a_name_of_the_hosts(self) -> None:
        text = json.dumps(slack_payload(notice(summary="<!channel> & <@U1>", guard="<!here>")))
        assert "<" not in text
        assert "&lt;!channel&gt; &amp;" in text

    def test_no_text_is_longer_than_it_may_be_and_no_escape_is_cut(self) -> None:
        facts = tuple((f"n{n}" * 50, "&" * 5000) for n in range(20))
        found = slack_payload(notice(summary="<" * 9000, facts=facts, ended_at=1.0))
        (attachment,) = found["attachments"]
        assert len(attachment["text"]) == 3000
        assert attachment["text"].replace("&lt;", "") == ""
        assert len(attachment["fields"]) == 10
        assert attachment["fields"][-1]["title"] == "until"
        assert all(len(each["value"]) <= 300 for each in attachment["fields"])
        assert all(not each["value"].replace("&amp;", "") for each in attachment["fields"][:5])

    def test_a_channel_can_be_given(self) -> None:
        sink = SlackSink("https://hooks.example/x", channel="#ops")
        assert sink.payload(notice())["channel"] == "#ops"


class TestFile:
    def lines(self, path: Path) -> list[str]:
        return [json.loads(line)["summary"] for line in path.read_text().splitlines()]

    def test_each_message_is_a_line(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "alerts.jsonl"
        sink = FileSink(path)
        for number in range(3):
            sink.deliver(notice(number), Connection(10.0))
        assert self.lines(path) == ["number 0", "number 1", "number 2"]

    @posix
    def test_only_its_owner_reads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "alerts.jsonl"
        FileSink(path).deliver(notice(), Connection(10.0))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    def test_full_files_are_kept_up_to_a_number_and_no_line_is_torn(self, tmp_path: Path) -> None:
        path = tmp_path / "alerts.jsonl"
        sink = FileSink(path, max_bytes="64KiB", keep=2)
        for number in range(300):
            sink.deliver(notice(number, summary="x" * 800), Connection(10.0))
        files = sorted(tmp_path.iterdir())
        assert [file.name for file in files] == [
            "alerts.jsonl",
            "alerts.jsonl.1",
            "alerts.jsonl.2",
        ]
        assert all(file.stat().st_size <= 64 * 1024 for file in files)
        assert sum(len(self.lines(file)) for file in files) > 120
        newest = json.loads(path.read_text().splitlines()[-1])
        assert newest["id"] == f"{299:016x}"

    @posix
    def test_a_child_that_was_forked_in_the_midst_of_it_keeps_nobody_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "alerts.jsonl"
        sink = FileSink(path)
        copies: list[int] = []
        write = private_directory.write_all

        def duplicate(descriptor: int, content: bytes) -> None:
            # What a child has of the directory: another descriptor of the same open file.
            found = [
                each
                for each in map(int, os.listdir("/dev/fd"))  # noqa: PTH208 - reason: numbers, not files
                if is_of(each, tmp_path)
            ]
            copies.extend(map(os.dup, found))
            write(descriptor, content)

        with monkeypatch.context() as patch:
            patch.setattr(file_sink, "write_all", duplicate)
            sink.deliver(notice(0), Connection(10.0))
        assert copies
        try:
            sink.deliver(notice(1), Connection(10.0))
        finally:
            for each in copies:
                os.close(each)
        assert self.lines(path) == ["number 0", "number 1"]

    def test_threads_that_share_a_file_lose_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "alerts.jsonl"
        sinks = [FileSink(path, max_bytes="64KiB", keep=50) for _ in range(4)]

        def write(sink: FileSink, base: int) -> None:
            for number in range(60):
                sink.deliver(notice(base + number, summary="x" * 250), Connection(30.0))

        threads = [
            threading.Thread(target=write, args=(sink, 100 * n)) for n, sink in enumerate(sinks)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = [
            json.loads(line)
            for file in tmp_path.iterdir()
            for line in file.read_text().splitlines()
        ]
        assert len({each["id"] for each in found}) == len(found) == 240

    def test_half_a_line_of_somebody_who_died_spoils_no_other(self, tmp_path: Path) -> None:
        path = tmp_path / "alerts.jsonl"
        path.write_bytes(b'{"half":')
        FileSink(path).deliver(notice(), Connection(10.0))
        half, whole = path.read_text().splitlines()
        assert half == '{"half":'
        assert json.loads(whole)["summary"] == "number 1"

    def test_a_full_disk_leaves_no_half_a_line_and_is_tried_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "alerts.jsonl"
        sink = FileSink(path)
        sink.deliver(notice(1), Connection(10.0))
        before = path.read_bytes()
        write = os.write

        def full(descriptor: int, content: Any) -> int:
            if len(content) > 20:
                return write(descriptor, content[:20])
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(
                os, "write", lambda d, c: full(d, c) if len(c) < 400 else write(d, c[:390])
            )
            with pytest.raises(DeliveryError) as caught:
                sink.deliver(notice(2), Connection(10.0))
        assert (caught.value.why, caught.value.retry) == ("OSError 28", True)
        assert path.read_bytes() == before

    @posix
    @pytest.mark.parametrize("kind", ["link", "pipe", "hard link"])
    def test_what_somebody_placed_there_is_not_written_to(self, tmp_path: Path, kind: str) -> None:
        path, other = tmp_path / "alerts.jsonl", tmp_path / "other"
        sink = FileSink(path)
        other.write_text("")
        if kind == "link":
            path.symlink_to(other)
        elif kind == "pipe":
            os.mkfifo(path)
        else:
            path.hardlink_to(other)
        with pytest.raises(DeliveryError):
            sink.deliver(notice(), Connection(10.0))
        assert other.read_text() == ""

    @posix
    def test_a_directory_that_others_may_write_to_is_refused(self, tmp_path: Path) -> None:
        place = tmp_path / "open"
        place.mkdir()
        sink = FileSink(place / "alerts.jsonl")
        place.chmod(0o777)
        with pytest.raises(ConfigError, match="must not be writable by others"):
            FileSink(place / "alerts.jsonl")
        with pytest.raises(DeliveryError, match="not private any more"):
            sink.deliver(notice(), Connection(10.0))

    @posix
    def test_a_lock_that_nobody_lets_go_of_is_waited_for_in_vain_and_not_for_ever(
        self, tmp_path: Path
    ) -> None:
        fcntl = pytest.importorskip("fcntl")
        sink = FileSink(tmp_path / "alerts.jsonl")
        holder = os.open(tmp_path, os.O_RDONLY)
        try:
            fcntl.flock(holder, fcntl.LOCK_EX)
            with pytest.raises(DeliveryError, match="TimeoutError"):
                sink.deliver(notice(), Connection(0.2))
        finally:
            os.close(holder)


class TestMail:
    def mail(self, **changes: Any) -> MailSink:
        options = {"sender": "guard@example.org", "recipients": ["ops@example.org", "me@here"]}
        return MailSink("mail.example.org", **{**options, **changes})

    def test_it_can_be_read_and_is_marked_as_made_by_a_machine(self) -> None:
        found = self.mail().message(notice())
        assert found["To"] == "ops@example.org, me@here"
        assert found["Subject"] == "[critical] memory_used: shop on web-1"
        assert found["Auto-Submitted"] == "auto-generated"
        assert found["Message-ID"] == f"<memguard.{1:016x}@example.org>"
        assert found["References"] == f"<memguard.{'f' * 16}@example.org>"
        text = found.get_content()
        assert text.startswith("number 1\n")
        assert "used:              900.0 MiB" in text

    def test_no_name_gets_a_header_of_its_own(self) -> None:
        evil = "x\r\nBcc: everybody@example.org\r\n\r\nbody"
        found = self.mail().message(notice(guard=evil, host=evil, summary=evil, rule=evil))
        data = found.as_bytes()
        head = data.split(b"\r\n\r\n")[0]
        assert b"\nBcc:" not in head
        assert found["Bcc"] is None
        assert len(found.keys()) == len(self.mail().message(notice()).keys())

    def test_names_of_the_world_are_fine(self) -> None:
        found = self.mail().message(notice(guard="Bücher 📚", summary="größer"))
        assert "Bücher 📚" in found["Subject"]
        assert found.as_bytes().isascii() or b"8bit" in found.as_bytes()


def test_what_a_server_cannot_do_now_it_may_do_later() -> None:
    later = [status for status in range(200, 600) if may_succeed_later(status)]
    assert later[:5] == [408, 421, 425, 429, 500]
    assert set(range(500, 600)) - set(later) == {501, 505}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("5", 5.0),
        (" 120 ", 120.0),
        ("99999999999", 86400.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:12:20 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("1e3", None),
        ("٣", None),
        ("Tue, 99 Nov 2023 99:14:20 GMT", None),
        ("9" * 200, None),
        ("", None),
    ],
)
def test_a_wish_to_be_left_alone_is_understood_in_both_forms(
    text: str | None, seconds: float | None
) -> None:
    assert retry_after(text, 1_700_000_000.0) == seconds


def test_a_date_without_a_zone_is_of_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC-5")
        getattr(time, "tzset", int)()  # Windows has none, and takes the zone of the system
        assert retry_after("Tue, 14 Nov 2023 22:14:20 -0000", 1_700_000_000.0) == 60.0
    getattr(time, "tzset", int)()


def test_an_object_whose_call_is_a_coroutine_is_an_error_and_no_delivery() -> None:
    class Host:
        async def __call__(self, _: object) -> None: ...

    with pytest.raises(TypeError, match="returned a coroutine"):
        CallSink(Host()).deliver(notice(), Connection(10.0))


SECRET = "secret"  # noqa: S105 - reason: of nobody
URL = "https://user-secret.example/T0/secret"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: WebhookSink("ftp://x/secret"), ConfigError, "must begin with http"),
        (lambda: WebhookSink("file:///etc/secret"), ConfigError, "must begin with http"),
        (lambda: WebhookSink("https:///secret"), ConfigError, "must name a host"),
        (lambda: WebhookSink("https://x:secret/"), ConfigError, "cannot be read"),
        (lambda: WebhookSink("https://[secret/"), ConfigError, "cannot be read"),
        (lambda: WebhookSink("https://a:secret@x/"), ConfigError, "must not hold a password"),
        (lambda: WebhookSink("https://x/secret path"), ConfigError, "printable ASCII"),
        (lambda: WebhookSink("https://x/secret\r\nX: y"), ConfigError, "printable ASCII"),
        (lambda: WebhookSink("https://ü/secret"), ConfigError, "printable ASCII"),
        (lambda: WebhookSink(bad(7)), TypeError, "url must be a string"),
        (lambda: WebhookSink(URL, headers={"A b": ""}), ConfigError, "must be a token"),
        (lambda: WebhookSink(URL, headers={"A": "secret\r\nB: c"}), ConfigError, "one line"),
        (lambda: WebhookSink(URL, headers={"Host": "x"}), ConfigError, "not yours"),
        (lambda: WebhookSink(URL, headers=bad({"A": 1})), TypeError, "must be strings"),
        (lambda: WebhookSink(URL, headers=bad([])), TypeError, "must be a mapping"),
        (lambda: WebhookSink(URL, payload=bad(1)), TypeError, "payload must be callable"),
        (lambda: WebhookSink(URL, trust_env=bad(1)), TypeError, "trust_env"),
        (lambda: WebhookSink(URL, timeout=0), ConfigError, "timeout must be"),
        (lambda: SlackSink(URL, channel=bad(1)), TypeError, "channel must be"),
        (lambda: CallSink(bad(1)), TypeError, "call must be callable"),
        (lambda: CallSink(bad(asyncio.sleep)), TypeError, "must be a plain function"),
        (lambda: LogSink(name="no spaces"), ConfigError, "name must be"),
        (lambda: LogSink(name=bad(1)), TypeError, "name must be a string"),
        (lambda: LogSink(min_severity=bad("x")), ConfigError, "min_severity must be"),
        (lambda: FileSink(bad(1)), TypeError, "path must be"),
        (lambda: FileSink("/"), ConfigError, "path must be a file"),
        (lambda: FileSink("x", keep=0), ConfigError, "keep must be"),
        (lambda: FileSink("x", keep=bad("1")), TypeError, "keep must be"),
        (lambda: FileSink("x", max_bytes=1000), ConfigError, "max_bytes must be >= 64 KiB"),
    ],
)
def test_wrong_options_are_refused_and_no_secret_is_repeated(
    make: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        make()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"host": "a b"}, ConfigError, "host must be"),
        ({"host": 1}, TypeError, "host must be"),
        ({"sender": "me@x.org\r\nBcc: y@z.org"}, ConfigError, "sender must be a plain address"),
        ({"sender": "Me <me@x.org>"}, ConfigError, "sender must be a plain address"),
        ({"sender": 1}, TypeError, "sender must be a string"),
        ({"recipients": []}, ConfigError, "from 1 to 50"),
        ({"recipients": ["a@b,c@d"]}, ConfigError, "recipients must be a plain address"),
        ({"security": "ssl"}, ConfigError, "security must be"),
        ({"port": 0}, ConfigError, "port must be"),
        ({"port": "25"}, TypeError, "port must be"),
        ({"username": "me"}, ConfigError, "together"),
        ({"username": 1, "password": "p"}, TypeError, "must be strings"),
        ({"username": "m", "password": "secret", "security": "none"}, ConfigError, "in clear"),
        ({"username": "m", "password": "secret\u00e4"}, ConfigError, "must be ASCII"),
    ],
)
def test_wrong_options_of_mail_are_refused(
    changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    options: dict[str, Any] = {"host": "mail.example.org", "sender": "a@b.org", "recipients": "c@d"}
    options |= changes
    with pytest.raises(error, match=words) as caught:
        MailSink(options.pop("host"), **options)
    assert "secret" not in str(caught.value)


def test_no_secret_is_in_what_a_sink_says_of_itself() -> None:
    hook = WebhookSink("https://x.example:8443/T0/secret?k=secret", headers={"A": "secret"})
    mail = MailSink(
        "mail.example", sender="a@b.org", recipients="c@d.org", username="u", password=SECRET
    )
    assert repr(hook) == "WebhookSink(https://x.example:8443/..., name='webhook')"
    assert repr(mail) == "MailSink(mail.example:587, name='mail')"
    assert repr(SlackSink("https://[::1]/secret")) == "SlackSink(https://[::1]/..., name='slack')"


def test_a_file_sink_shows_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays where it was, wherever the host goes."""
    monkeypatch.chdir(tmp_path)
    sink = FileSink("alerts.jsonl", max_bytes=MIB)
    assert sink.path == tmp_path / "alerts.jsonl"
    assert str(tmp_path) in repr(sink)
