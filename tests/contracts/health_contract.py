"""What both health applications answer, whatever serves them: a contract to be opted into."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest

from memguard import BoundedCache, MemoryGuard
from memguard.report.health import application as health_application
from tests.serving import TOKEN, Answer, Served
from tests.waiting import wait_for

Serve = Callable[..., AbstractContextManager[Served]]
READ_TOKEN = "another-token-for-reading"  # noqa: S105 - reason: a token of a test
READS = ("/health/live", "/health/ready", "/health/memory", "/memguard", "/memguard/data")
ALWAYS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class HealthContract:
    """Subclasses give ``serve``: it serves an application made of a guard and options."""

    serve: Serve

    @pytest.fixture
    def guard(self) -> Iterator[MemoryGuard]:
        with MemoryGuard(limit="100GiB", interval=0.02, leaks=False, name="shop") as guard:
            wait_for(lambda: guard.level == "ok")
            yield guard

    def test_every_route_answers_a_get_and_a_head(self, guard: MemoryGuard) -> None:
        with self.serve(guard) as site:
            for path in (*READS, "/"):
                got, head = site.ask(path), site.ask(path, "HEAD")
                assert (got.status, head.status) == (200, 200), path
                assert head.body == b""
                assert int(head.headers["content-length"]) > 0
                assert got.headers["content-type"] == head.headers["content-type"]
                for answer in (got, head):
                    for name, value in ALWAYS.items():
                        assert answer.headers[name] == value
                    assert "default-src 'none'" in answer.headers["content-security-policy"]

    def test_the_probes_and_the_numbers(self, guard: MemoryGuard) -> None:
        with self.serve(guard) as site:
            assert site.ask("/health/live").json == {"alive": True}
            assert site.ask("/health/ready").json == {"ready": True, "level": "ok"}
            numbers = site.ask("/health/memory").json
            assert numbers["guard"] == "shop"
            assert numbers["process_id"] == os.getpid()
            assert numbers["memory"]["private_bytes"] > 0
            page = site.ask("/memguard")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            assert "script-src 'sha256-" in page.headers["content-security-policy"]
            assert "of the limit in use" in page.text
            data = site.ask("/memguard/data?span=day").json
            assert set(data["parts"]) >= {"head", "memory", "containers", "collector"}

    def test_what_is_not_there_is_404_and_what_is_not_allowed_405(self, guard: MemoryGuard) -> None:
        with self.serve(guard) as site:
            for path in ("/nix", "/health", "/health/live/", "/memguard/nix", "/memguard/relieve"):
                for method in ("GET", "POST"):
                    answer = site.ask(path, method)
                    assert (answer.status, answer.json["error"]) == (404, "not found")
                    assert answer.headers["cache-control"] == "no-store"
            for path in READS:
                for method in ("POST", "PUT", "DELETE", "OPTIONS"):
                    answer = site.ask(path, method, "x=y")
                    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
        with self.serve(guard, relieve_token=TOKEN) as site:
            for method in ("GET", "HEAD", "PUT"):
                answer = site.ask("/memguard/relieve", method)
                assert (answer.status, answer.headers["allow"]) == (405, "POST")

    def test_a_slash_too_many_is_led_to_the_page(self, guard: MemoryGuard) -> None:
        with self.serve(guard) as site:
            answer = site.ask("/memguard/")
            assert (answer.status, answer.headers["location"]) == (308, "../memguard")

    def test_critical_is_unready_only_where_that_was_asked_for(self) -> None:
        options: dict[str, Any] = {"leaks": False, "relief": False, "interval": 0.02}
        with MemoryGuard(limit="1MiB", **options) as guard:
            wait_for(lambda: guard.level == "critical")
            with self.serve(guard) as site:
                assert site.ask("/health/ready").json == {"ready": True, "level": "critical"}
            with self.serve(guard, critical_is_unready=True) as site:
                answer = site.ask("/health/ready")
                assert (answer.status, answer.json["ready"]) == (503, False)
                assert answer.headers["retry-after"]
                assert site.ask("/health/live").status == 200
        with self.serve(guard, critical_is_unready=True) as site:  # what it saw is long ago
            answer = site.ask("/health/ready")
            assert answer.json == {"ready": True, "level": "insufficient_data"}

    def test_a_host_without_its_guard_is_alive_and_ready(self) -> None:
        def none_yet() -> MemoryGuard:
            raise LookupError("with something secret in its text")

        with self.serve(none_yet, critical_is_unready=True) as site:
            assert site.ask("/health/live").status == 200
            assert site.ask("/health/ready").status == 200
            for path in ("/health/memory", "/memguard", "/memguard/data"):
                answer = site.ask(path)
                assert answer.status == 503
                assert "secret" not in answer.text

    def test_numbers_need_a_token_where_one_is_set_and_probes_do_not(
        self, guard: MemoryGuard
    ) -> None:
        def basic(token: str) -> str:
            return "Basic " + base64.b64encode(f"me:{token}".encode()).decode()

        with self.serve(guard, read_token=READ_TOKEN, relieve_token=TOKEN) as site:
            assert site.ask("/health/live").status == site.ask("/health/ready").status == 200
            for path in ("/health/memory", "/memguard", "/memguard/data", "/", "/memguard/"):
                refused = site.ask(path)
                assert refused.status == 401
                assert refused.headers["www-authenticate"].startswith("Basic ")
                for wrong in ("Basic ???", basic("wrong"), f"Bearer {READ_TOKEN}x", READ_TOKEN):
                    assert site.ask(path, Authorization=wrong).status == 401
                for right in (basic(READ_TOKEN), f"Bearer {READ_TOKEN}", basic(TOKEN)):
                    assert site.ask(path, Authorization=right).status in (200, 308)
                assert site.ask(path, X_Memguard_Token=READ_TOKEN).status in (200, 308)

    # -- the one mutating request -----------------------------------------------------------------

    def test_memory_is_given_back_to_who_has_the_token(self, guard: MemoryGuard) -> None:
        cache: BoundedCache[int, bytes] = BoundedCache(maxbytes="64MiB", name="to be given")
        with self.serve(guard, relieve_token=TOKEN) as site:
            instance = site.ask("/memguard/data").json["instance"]
            ways: list[Callable[[], Answer]] = [
                lambda: site.post(X_Memguard_Token=TOKEN),
                lambda: site.post(Authorization=f"Bearer {TOKEN}"),
                lambda: site.post(body=f"token={TOKEN}&instance={instance}&target="),
                lambda: site.post(body=f"token={TOKEN}&target=1MiB"),
            ]
            for way in ways:
                for number in range(100):
                    cache[number] = bytes(20_000)
                answer = way()
                assert answer.status == 200
                assert answer.json["message"].startswith("Memory ")
                assert answer.json["report"]["freed"] >= 800_000
                assert answer.json["process_id"] == os.getpid()
            assert "The last run requested here" in site.ask("/memguard").text

    def test_a_browser_without_a_script_is_led_back_to_the_page(self, guard: MemoryGuard) -> None:
        with self.serve(guard, relieve_token=TOKEN) as site:
            form = {"Accept": "text/html,*/*", "Sec_Fetch_Site": "same-origin"}
            answer = site.post(body=f"token={TOKEN}", **form)
            assert (answer.status, answer.headers["location"]) == (303, "../memguard")
            refused = site.post(body="token=wrong", **form)
            assert refused.status == 403
            assert "The token is wrong." in refused.text
            assert refused.headers["content-type"] == "text/html; charset=utf-8"

    def test_who_may_not_gets_nothing_done(self, guard: MemoryGuard) -> None:
        coded = base64.b64encode(f"x:{TOKEN}".encode()).decode()
        right = {"X_Memguard_Token": TOKEN}
        with self.serve(guard, relieve_token=TOKEN, read_token=READ_TOKEN) as site:
            refusals = [
                (site.post(), 403),
                (site.post(X_Memguard_Token=TOKEN[:-1]), 403),
                (site.post(X_Memguard_Token=READ_TOKEN), 403),
                (site.post(body="token=%ff"), 400),
                (site.post(body="a&b&c"), 403),
                (site.post(body="&".join(f"{n}={n}" for n in range(20))), 400),
                # A browser sends Basic by itself, also for a page of somebody else.
                (site.post(Authorization=f"Basic {coded}"), 403),
                (site.post(**right, Origin="https://evil.example"), 403),
                (site.post(**right, Sec_Fetch_Site="cross-site"), 403),
                (site.post(**right, Sec_Fetch_Site="same-site"), 403),
                (site.post(body=f"instance=x-1&token={TOKEN}"), 409),
                (site.post(body=f"target=-5&token={TOKEN}"), 400),
                (site.post(body=f"target=many&token={TOKEN}"), 400),
                (site.ask("/memguard/relieve", "POST", "{}", **right, Content_Type="a/json"), 415),
                (site.post(body="x" * 5000, **right), 413),
            ]
            for number, (answer, status) in enumerate(refusals):
                assert answer.status == status, (number, answer.text)
                assert TOKEN not in answer.text
        assert guard.relief is not None
        assert guard.relief.statistics().runs == 0

    def test_one_run_at_a_time_and_one_that_takes_long_goes_on(self, guard: MemoryGuard) -> None:
        begun, opened = threading.Event(), threading.Event()

        def slow() -> None:
            begun.set()
            assert opened.wait(30)

        with (
            guard.on_pressure(slow, deadline=30),
            self.serve(guard, relieve_token=TOKEN, relieve_seconds=0.3) as site,
        ):
            try:
                # The monitor may be at work in this very moment: then it is asked again.
                wait_for(lambda: site.post(X_Memguard_Token=TOKEN).status == 202)
                wait_for(begun.is_set)
                busy = site.post(X_Memguard_Token=TOKEN)
                assert (busy.status, busy.json["error"]) == (409, "busy")
                assert busy.headers["retry-after"] == "1"
                # Meanwhile everything else answers.
                assert site.ask("/health/ready").status == 200
                assert site.ask("/health/memory").status == 200
            finally:
                opened.set()
            wait_for(lambda: "The last run requested here" in site.ask("/memguard").text)
            wait_for(lambda: site.post(X_Memguard_Token=TOKEN).status == 200)

    def test_a_guard_that_gives_nothing_back_says_so(self) -> None:
        with (
            MemoryGuard(relief=False, leaks=False) as guard,
            self.serve(guard, relieve_token=TOKEN) as site,
        ):
            assert site.post(X_Memguard_Token=TOKEN).status == 409

    def test_a_run_that_fails_is_told_by_its_name_alone(self, guard: MemoryGuard) -> None:
        def fail(*_: object, **__: object) -> None:
            raise ZeroDivisionError("with a secret in its text")

        assert guard.relief is not None
        guard.relief.relieve = fail  # type: ignore[method-assign, assignment] # reason: a callback with on_error="raise"
        with self.serve(guard, relieve_token=TOKEN) as site:
            answer = site.post(X_Memguard_Token=TOKEN)
            assert answer.status == 500
            assert "ZeroDivisionError" in answer.text
            assert "secret" not in answer.text

    def test_more_than_can_wait_are_told_to_come_back(
        self, guard: MemoryGuard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A container that does not answer takes one thread and a bounded list, nothing else."""
        # Those who wait are not to give up while the others are still on their way.
        monkeypatch.setattr(health_application, "_READ_SECONDS", 60.0)
        opened = threading.Event()
        asked: list[int] = []

        def stuck() -> MemoryGuard:
            assert opened.wait(30)
            return guard

        with self.serve(stuck) as site:
            threads = [
                threading.Thread(target=lambda: asked.append(site.ask("/health/memory").status))
                for _ in range(90)
            ]
            for thread in threads:
                thread.start()
            try:
                wait_for(lambda: len(asked) == 90 - 64)
                assert set(asked) == {503}
                ours = [t for t in threading.enumerate() if t.name == "memguard-health-data"]
                assert len(ours) == 1
                assert site.ask("/health/live").status == 200
            finally:
                opened.set()
                for thread in threads:
                    thread.join(25)
        assert len(asked) == 90

    def test_many_ask_at_once_and_all_are_answered(self, guard: MemoryGuard) -> None:
        statuses: list[int] = []
        with self.serve(guard) as site:

            def ask() -> None:
                statuses.extend(site.ask(path).status for path in READS)

            threads = [threading.Thread(target=ask) for _ in range(12)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(25)
        assert statuses == [200] * 60
        wait_for(
            lambda: not any(t.name.startswith("memguard-health") for t in threading.enumerate())
        )
