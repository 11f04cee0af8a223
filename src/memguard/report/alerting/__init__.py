"""
Alerts: rules over a guard's state, and notices to people and their systems.

`Alerts` evaluates the rules, and delivers in a thread of its own for each sink.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.alerting.alerts import ActiveAlert, Alerts, AlertsStatistics
    from memguard.report.alerting.delivery import SinkStatistics
    from memguard.report.alerting.file_sink import FileSink
    from memguard.report.alerting.mail import MailSink
    from memguard.report.alerting.notice import Notice
    from memguard.report.alerting.notice_policy import RateLimit
    from memguard.report.alerting.rules import (
        GcShareAbove,
        GrowthAbove,
        LeakSuspected,
        LevelReached,
        ReliefIneffective,
        Rule,
        UsedAbove,
        When,
        default_rules,
    )
    from memguard.report.alerting.sink import CallSink, DeliveryError, LogSink, Sink
    from memguard.report.alerting.webhook import SlackSink, WebhookSink

__all__ = [
    "ActiveAlert",
    "Alerts",
    "AlertsStatistics",
    "CallSink",
    "DeliveryError",
    "FileSink",
    "GcShareAbove",
    "GrowthAbove",
    "LeakSuspected",
    "LevelReached",
    "LogSink",
    "MailSink",
    "Notice",
    "RateLimit",
    "ReliefIneffective",
    "Rule",
    "Sink",
    "SinkStatistics",
    "SlackSink",
    "UsedAbove",
    "WebhookSink",
    "When",
    "default_rules",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.alerting.alerts": "ActiveAlert Alerts AlertsStatistics",
            "memguard.report.alerting.delivery": "SinkStatistics",
            "memguard.report.alerting.file_sink": "FileSink",
            "memguard.report.alerting.mail": "MailSink",
            "memguard.report.alerting.notice": "Notice",
            "memguard.report.alerting.notice_policy": "RateLimit",
            "memguard.report.alerting.rules": (
                "GcShareAbove GrowthAbove LeakSuspected LevelReached ReliefIneffective "
                "Rule UsedAbove When default_rules"
            ),
            "memguard.report.alerting.sink": "CallSink DeliveryError LogSink Sink",
            "memguard.report.alerting.webhook": "SlackSink WebhookSink",
        },
    )
