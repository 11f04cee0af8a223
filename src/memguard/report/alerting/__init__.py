"""
Alerts: rules over a guard's state, and notices to people and their systems.

`Alerts` evaluates the rules, and delivers in a thread of its own for each sink.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.alerting.alerts import ActiveAlert as ActiveAlert
    from memguard.report.alerting.alerts import Alerts as Alerts
    from memguard.report.alerting.alerts import AlertsStatistics as AlertsStatistics
    from memguard.report.alerting.delivery import SinkStatistics as SinkStatistics
    from memguard.report.alerting.file_sink import FileSink as FileSink
    from memguard.report.alerting.mail import MailSink as MailSink
    from memguard.report.alerting.notice import Notice as Notice
    from memguard.report.alerting.notice_policy import RateLimit as RateLimit
    from memguard.report.alerting.rules import GcShareAbove as GcShareAbove
    from memguard.report.alerting.rules import GrowthAbove as GrowthAbove
    from memguard.report.alerting.rules import LeakSuspected as LeakSuspected
    from memguard.report.alerting.rules import LevelReached as LevelReached
    from memguard.report.alerting.rules import ReliefIneffective as ReliefIneffective
    from memguard.report.alerting.rules import Rule as Rule
    from memguard.report.alerting.rules import UsedAbove as UsedAbove
    from memguard.report.alerting.rules import When as When
    from memguard.report.alerting.rules import default_rules as default_rules
    from memguard.report.alerting.sink import CallSink as CallSink
    from memguard.report.alerting.sink import DeliveryError as DeliveryError
    from memguard.report.alerting.sink import LogSink as LogSink
    from memguard.report.alerting.sink import Sink as Sink
    from memguard.report.alerting.webhook import SlackSink as SlackSink
    from memguard.report.alerting.webhook import WebhookSink as WebhookSink
else:
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
                "GcShareAbove GrowthAbove LeakSuspected LevelReached ReliefIneffective Rule "
                "UsedAbove When default_rules"
            ),
            "memguard.report.alerting.sink": "CallSink DeliveryError LogSink Sink",
            "memguard.report.alerting.webhook": "SlackSink WebhookSink",
        },
    )
