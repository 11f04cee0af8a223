"""
Health: data, probes and a live page, over ASGI and WSGI.

`health` is the data; `HealthAsgi` and `HealthWsgi` serve it to probes and people.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.health.application import HealthApplication, HealthStatistics
    from memguard.report.health.asgi import HealthAsgi
    from memguard.report.health.health_report import HealthReport, health
    from memguard.report.health.wsgi import HealthWsgi

__all__ = [
    "HealthApplication",
    "HealthAsgi",
    "HealthReport",
    "HealthStatistics",
    "HealthWsgi",
    "health",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.health.application": "HealthApplication HealthStatistics",
            "memguard.report.health.asgi": "HealthAsgi",
            "memguard.report.health.health_report": "HealthReport health",
            "memguard.report.health.wsgi": "HealthWsgi",
        },
    )
