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
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.sinks.directory": "ReportDirectory ReportDirectoryStatistics",
        },
    )
