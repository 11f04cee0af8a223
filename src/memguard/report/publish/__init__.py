"""
What a guard knows, for other processes of the same user: a small file, written anew each time.

`Publisher` writes it; ``reader`` finds and reads the files of others.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.publish import bulletin, reader
    from memguard.report.publish.bulletin import (
        BULLETIN_VERSION,
        MOST_BYTES,
        MOST_CONTAINERS,
        MOST_REPORTS,
        AlertRow,
        Bulletin,
        ContainerRow,
        ReportRow,
        report_row,
    )
    from memguard.report.publish.publisher import Publisher, PublisherStatistics

__all__ = [
    "BULLETIN_VERSION",
    "MOST_BYTES",
    "MOST_CONTAINERS",
    "MOST_REPORTS",
    "AlertRow",
    "Bulletin",
    "ContainerRow",
    "Publisher",
    "PublisherStatistics",
    "ReportRow",
    "bulletin",
    "reader",
    "report_row",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.publish": "bulletin reader",
            "memguard.report.publish.bulletin": (
                "AlertRow BULLETIN_VERSION Bulletin ContainerRow MOST_BYTES MOST_CONTAINERS "
                "MOST_REPORTS ReportRow report_row"
            ),
            "memguard.report.publish.publisher": "Publisher PublisherStatistics",
        },
    )
