"""
The status of a guard for other processes of the same user, in a small file.

`Publisher` writes it; ``reader`` finds and reads the files of others.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.publish import process_status, reader
    from memguard.report.publish.process_status import (
        MOST_BYTES,
        MOST_CONTAINERS,
        MOST_REPORTS,
        STATUS_VERSION,
        AlertRow,
        ContainerRow,
        ProcessStatus,
        ReportRow,
        report_row,
    )
    from memguard.report.publish.publisher import Publisher, PublisherStatistics

__all__ = [
    "MOST_BYTES",
    "MOST_CONTAINERS",
    "MOST_REPORTS",
    "STATUS_VERSION",
    "AlertRow",
    "ContainerRow",
    "ProcessStatus",
    "Publisher",
    "PublisherStatistics",
    "ReportRow",
    "process_status",
    "reader",
    "report_row",
]

if not TYPE_CHECKING:
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
