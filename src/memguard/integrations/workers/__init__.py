"""
Worker processes that are guarded, and replaced when their own memory exceeds a limit.

One module for each kind of server.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.integrations.workers import celery as celery
    from memguard.integrations.workers import gunicorn as gunicorn
    from memguard.integrations.workers import uwsgi as uwsgi
    from memguard.integrations.workers.recycle_policy import RecycleOptions as RecycleOptions
    from memguard.integrations.workers.recycler import Recycler as Recycler
    from memguard.integrations.workers.recycler import RecyclerStatistics as RecyclerStatistics
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.integrations.workers": "celery gunicorn uwsgi",
            "memguard.integrations.workers.recycle_policy": "RecycleOptions",
            "memguard.integrations.workers.recycler": "Recycler RecyclerStatistics",
        },
    )
