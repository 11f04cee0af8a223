"""
What all services share: a thread, one run at a time, failures, fork, exit.

One janitor thread sweeps for all containers.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.lifecycle import fork as fork
    from memguard.lifecycle import identity as identity
    from memguard.lifecycle import interpreter as interpreter
    from memguard.lifecycle import janitor as janitor
    from memguard.lifecycle import locks as locks
    from memguard.lifecycle import threads as threads
    from memguard.lifecycle import uwsgi as uwsgi
    from memguard.lifecycle.at_exit import call_at_exit as call_at_exit
    from memguard.lifecycle.at_exit import not_at_exit as not_at_exit
    from memguard.lifecycle.at_exit import stop_at_exit as stop_at_exit
    from memguard.lifecycle.degraded import GUARD_PARTS as GUARD_PARTS
    from memguard.lifecycle.degraded import Degradations as Degradations
    from memguard.lifecycle.degraded import Degraded as Degraded
    from memguard.lifecycle.degraded import described as described
    from memguard.lifecycle.failures import Failures as Failures
    from memguard.lifecycle.fork import call_in_child as call_in_child
    from memguard.lifecycle.fork import check as check
    from memguard.lifecycle.fork import reset_after_fork as reset_after_fork
    from memguard.lifecycle.fork import restart_after_fork as restart_after_fork
    from memguard.lifecycle.identity import UNKNOWN as UNKNOWN
    from memguard.lifecycle.identity import is_running as is_running
    from memguard.lifecycle.identity import started as started
    from memguard.lifecycle.interpreter import require_main as require_main
    from memguard.lifecycle.loops import running_loop as running_loop
    from memguard.lifecycle.private_directory import PrivateDirectory as PrivateDirectory
    from memguard.lifecycle.private_directory import check_private as check_private
    from memguard.lifecycle.private_directory import for_process as for_process
    from memguard.lifecycle.private_directory import open_private as open_private
    from memguard.lifecycle.private_directory import write_all as write_all
    from memguard.lifecycle.queues import drain as drain
    from memguard.lifecycle.registry import Registration as Registration
    from memguard.lifecycle.registry import Registry as Registry
    from memguard.lifecycle.running import running_frames as running_frames
    from memguard.lifecycle.service import Service as Service
    from memguard.lifecycle.signals import ChainedHandler as ChainedHandler
    from memguard.lifecycle.ticker import Ticker as Ticker
    from memguard.lifecycle.turn import Turn as Turn
    from memguard.lifecycle.wake import Wake as Wake
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.lifecycle": "fork identity interpreter janitor locks threads uwsgi",
            "memguard.lifecycle.at_exit": "call_at_exit not_at_exit stop_at_exit",
            "memguard.lifecycle.degraded": "GUARD_PARTS Degradations Degraded described",
            "memguard.lifecycle.failures": "Failures",
            "memguard.lifecycle.fork": "call_in_child check reset_after_fork restart_after_fork",
            "memguard.lifecycle.identity": "UNKNOWN is_running started",
            "memguard.lifecycle.interpreter": "require_main",
            "memguard.lifecycle.loops": "running_loop",
            "memguard.lifecycle.private_directory": (
                "PrivateDirectory check_private for_process open_private write_all"
            ),
            "memguard.lifecycle.queues": "drain",
            "memguard.lifecycle.registry": "Registration Registry",
            "memguard.lifecycle.running": "running_frames",
            "memguard.lifecycle.service": "Service",
            "memguard.lifecycle.signals": "ChainedHandler",
            "memguard.lifecycle.ticker": "Ticker",
            "memguard.lifecycle.turn": "Turn",
            "memguard.lifecycle.wake": "Wake",
        },
    )
