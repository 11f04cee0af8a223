"""
Health: data, probes and a live page, over ASGI and WSGI.

`health` is the data; `HealthAsgi` and `HealthWsgi` serve it to probes and people.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.health.application import HealthApplication as HealthApplication
    from memguard.report.health.application import HealthStatistics as HealthStatistics
    from memguard.report.health.asgi import HealthAsgi as HealthAsgi
    from memguard.report.health.health_report import AlertHealth as AlertHealth
    from memguard.report.health.health_report import ContainerHealth as ContainerHealth
    from memguard.report.health.health_report import HealthReport as HealthReport
    from memguard.report.health.health_report import LeakHealth as LeakHealth
    from memguard.report.health.health_report import health as health
    from memguard.report.health.wsgi import HealthWsgi as HealthWsgi
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.health.application": "HealthApplication HealthStatistics",
            "memguard.report.health.asgi": "HealthAsgi",
            "memguard.report.health.health_report": (
                "AlertHealth ContainerHealth HealthReport LeakHealth health"
            ),
            "memguard.report.health.wsgi": "HealthWsgi",
        },
    )
