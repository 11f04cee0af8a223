"""
The delivery of an alert: a cache without a bound, a rule, and a webhook that is busy at first.

The receiver is a real HTTP server in this process; yours is Slack, or a paging service.
"""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

from memguard import MemoryGuard
from memguard.report import GuardState
from memguard.report.alerting import Alerts, WebhookSink, When

# Prints:
# answered 503: [critical] sessions
# answered 200: [critical] sessions: 1000 sessions are open
# answered 200: [resolved] sessions
# sent 2, retried 1, failed 0, dropped 0
SESSIONS: dict[int, bytes] = {}
DONE = threading.Event()


class Receiver(http.server.BaseHTTPRequestHandler):
    """Busy at the first request, fine from then on."""

    answers = iter([503])

    def do_POST(self) -> None:
        """Take one message."""
        notice = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = next(self.answers, 200)
        firing = notice["status"] == "firing"
        state = notice["severity"] if firing else notice["status"]
        words = f": {notice['summary']}" if firing and status == 200 else ""
        # Before it answers: the next message then comes after this line.
        print(f"answered {status}: [{state}] {notice['rule']}{words}")
        self.send_response(status)
        self.end_headers()
        if not firing:
            DONE.set()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


def too_many(_: GuardState) -> str | bool:
    """Return what is wrong, or False."""
    return f"{len(SESSIONS)} sessions are open" if len(SESSIONS) >= 1000 else False


def main() -> None:
    """Cause the problem, get the alert, repair it, get the all-clear."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    alerts = Alerts(
        MemoryGuard(limit="8GiB", leaks=False),
        rules=[When("sessions", too_many, severity="critical", resolve_after=0)],
        sinks=[WebhookSink(url, trust_env=False)],
        interval=0.2,
    )
    with alerts:
        SESSIONS.update((number, bytes(1000)) for number in range(1000))
        while not alerts.active:
            DONE.wait(0.05)
        SESSIONS.clear()
        DONE.wait(30)
        alerts.flush()
    found = alerts.statistics()
    print(
        f"sent {found.sent}, retried {found.retried}, "
        f"failed {found.failed}, dropped {found.dropped}"
    )
    server.shutdown()
    server.server_close()
    thread.join()


if __name__ == "__main__":
    main()
