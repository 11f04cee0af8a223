"""
Reports as files in a private directory.

`ReportDirectory` keeps the newest leak reports, within a number and a size.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.sinks.directory import ReportDirectory, ReportDirectoryStatistics
    from memguard.report.sinks.private_directory import (
        PrivateDirectory,
        check_private,
        open_private,
        write_all,
    )

__all__ = [
    "PrivateDirectory",
    "ReportDirectory",
    "ReportDirectoryStatistics",
    "check_private",
    "open_private",
    "write_all",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.sinks.directory": "ReportDirectory ReportDirectoryStatistics",
            "memguard.report.sinks.private_directory": (
                "PrivateDirectory check_private open_private write_all"
            ),
        },
    )
