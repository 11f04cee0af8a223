"""
Reports as files in a private directory.

`ReportDirectory` keeps the newest leak reports, within a number and a size.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.sinks.directory import ReportDirectory as ReportDirectory
    from memguard.report.sinks.directory import (
        ReportDirectoryStatistics as ReportDirectoryStatistics,
    )
    from memguard.report.sinks.private_directory import PrivateDirectory as PrivateDirectory
    from memguard.report.sinks.private_directory import check_private as check_private
    from memguard.report.sinks.private_directory import open_private as open_private
    from memguard.report.sinks.private_directory import write_all as write_all
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.sinks.directory": "ReportDirectory ReportDirectoryStatistics",
            "memguard.report.sinks.private_directory": (
                "PrivateDirectory check_private open_private write_all"
            ),
        },
    )
