"""
The status of a guard for other processes of the same user, in a small file.

`Publisher` writes it; ``reader`` finds and reads the files of others.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.publish import process_status as process_status
    from memguard.report.publish import reader as reader
    from memguard.report.publish.process_status import MOST_BYTES as MOST_BYTES
    from memguard.report.publish.process_status import MOST_CONTAINERS as MOST_CONTAINERS
    from memguard.report.publish.process_status import MOST_REPORTS as MOST_REPORTS
    from memguard.report.publish.process_status import STATUS_VERSION as STATUS_VERSION
    from memguard.report.publish.process_status import AlertRow as AlertRow
    from memguard.report.publish.process_status import ContainerRow as ContainerRow
    from memguard.report.publish.process_status import ProcessStatus as ProcessStatus
    from memguard.report.publish.process_status import ReportRow as ReportRow
    from memguard.report.publish.process_status import report_row as report_row
    from memguard.report.publish.publisher import Publisher as Publisher
    from memguard.report.publish.publisher import PublisherStatistics as PublisherStatistics
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.publish": "process_status reader",
            "memguard.report.publish.process_status": (
                "AlertRow ContainerRow MOST_BYTES MOST_CONTAINERS MOST_REPORTS ProcessStatus "
                "ReportRow STATUS_VERSION report_row"
            ),
            "memguard.report.publish.publisher": "Publisher PublisherStatistics",
        },
    )
