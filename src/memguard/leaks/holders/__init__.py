"""
Retaining paths: from an object to the name that holds it.

Anchors are modules, classes, loggers, context variables and locals of running functions; the
search is bounded in time and steps.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.leaks.holders import links as links
    from memguard.leaks.holders import paths as paths
    from memguard.leaks.holders.paths import CONJECTURE as CONJECTURE
    from memguard.leaks.holders.paths import Retention as Retention
    from memguard.leaks.holders.paths import find_paths as find_paths
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.leaks.holders": "links paths",
            "memguard.leaks.holders.paths": "CONJECTURE Retention find_paths",
        },
    )
