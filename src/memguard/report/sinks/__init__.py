"""Reports as files in a private directory."""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.report.sinks.directory import ReportDirectory, ReportDirectoryStatistics

__all__ = [
    "ReportDirectory",
    "ReportDirectoryStatistics",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.report.sinks.directory": "ReportDirectory ReportDirectoryStatistics",
        },
    )
