"""An installation without extras does the main job; each edge says what it lacks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

LEAKY = Path(__file__).parent.parent / "leaky"
EXTRAS = (
    *("prometheus_client", "opentelemetry", "starlette", "fastapi", "flask", "django", "celery"),
    *("gunicorn", "uvicorn", "httpx", "rich", "pytest", "numpy", "yaml", "blinker", "billiard"),
)
BLOCKED = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run(program: str, seconds: float = 50) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", BLOCKED + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


@pytest.mark.timeout(150)
def test_the_main_job_needs_no_extra() -> None:
    done = run(
        f"""
        import runpy
        sys.path.insert(0, {str(LEAKY)!r})
        sys.argv = ["driver.py", "module_dict", "90", "1.03"]
        runpy.run_path({str(LEAKY / "driver.py")!r}, run_name="__main__")
        """,
        120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '"module_dict.' in done.stdout, "the holder is named"


def test_guard_health_alerts_and_pages_need_no_extra() -> None:
    done = run(
        """
        import memguard
        from memguard.integrations.web import asgi, wsgi
        from memguard.report.alerting import Alerts, LogSink
        from memguard.report.health.asgi import HealthAsgi
        from memguard.report.health.wsgi import HealthWsgi

        guard = memguard.install(limit="8GiB")
        HealthAsgi(guard), HealthWsgi(guard), Alerts(guard, sinks=[LogSink()])
        asgi.MemguardMiddleware(lambda *_: None), wsgi.MemguardMiddleware(lambda *_: [])
        print(memguard.health(guard).watching)
        memguard.uninstall()
        """
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "True\n")


@pytest.mark.parametrize(
    ("room", "extra"),
    [
        ("memguard.report.metrics.prometheus.collector", "prometheus"),
        ("memguard.report.metrics.prometheus.multiprocess", "prometheus"),
        ("memguard.report.metrics.opentelemetry.telemetry", "otel"),
        ("memguard.integrations.web.starlette", "web"),
        ("memguard.integrations.web.flask", "flask"),
        ("memguard.integrations.web.django", "django"),
        ("memguard.integrations.workers.celery", "celery"),
        ("memguard.cli.top.live", "top"),
        ("memguard.integrations.testing.plugin", "pytest"),
    ],
)
def test_a_room_whose_package_is_missing_says_what_to_install(room: str, extra: str) -> None:
    done = run(
        f"""
        from memguard import MissingExtraError
        try:
            import {room}
        except MissingExtraError as error:
            print(error)
        """
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert f"pip install 'memguard-py[{extra}]'" in done.stdout


def test_every_extra_of_the_distribution_is_named() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    section = text.split("[project.optional-dependencies]")[1].split("[dependency-groups]")[0]
    for extra in (
        "prometheus",
        "otel",
        "web",
        "flask",
        "django",
        "gunicorn",
        "celery",
        "top",
        "pytest",
    ):
        assert f"\n{extra} = [" in section
