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
    from memguard.report.publish.process_status import MOST_LEAKS as MOST_LEAKS
    from memguard.report.publish.process_status import STATUS_VERSION as STATUS_VERSION
    from memguard.report.publish.process_status import ProcessStatus as ProcessStatus
    from memguard.report.publish.publisher import Publisher as Publisher
    from memguard.report.publish.publisher import PublisherStatistics as PublisherStatistics
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.publish": "process_status reader",
            "memguard.report.publish.process_status": (
                "MOST_BYTES MOST_CONTAINERS MOST_LEAKS ProcessStatus STATUS_VERSION"
            ),
            "memguard.report.publish.publisher": "Publisher PublisherStatistics",
        },
    )
