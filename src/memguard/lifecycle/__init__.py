"""
What all services share: a thread, one run at a time, failures, fork, exit.

One janitor thread sweeps for all containers.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.lifecycle import fork, identity, janitor, locks
    from memguard.lifecycle.at_exit import not_at_exit, stop_at_exit
    from memguard.lifecycle.failures import Failures
    from memguard.lifecycle.fork import call_in_child, reset_after_fork
    from memguard.lifecycle.identity import UNKNOWN, is_running, started
    from memguard.lifecycle.queues import drain
    from memguard.lifecycle.registry import Registration, Registry
    from memguard.lifecycle.service import Service
    from memguard.lifecycle.signals import ChainedHandler
    from memguard.lifecycle.ticker import Ticker
    from memguard.lifecycle.turn import Turn
    from memguard.lifecycle.wake import Wake

__all__ = [
    "UNKNOWN",
    "ChainedHandler",
    "Failures",
    "Registration",
    "Registry",
    "Service",
    "Ticker",
    "Turn",
    "Wake",
    "call_in_child",
    "drain",
    "fork",
    "identity",
    "is_running",
    "janitor",
    "locks",
    "not_at_exit",
    "reset_after_fork",
    "started",
    "stop_at_exit",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.lifecycle": "fork identity janitor locks",
            "memguard.lifecycle.at_exit": "not_at_exit stop_at_exit",
            "memguard.lifecycle.failures": "Failures",
            "memguard.lifecycle.fork": "call_in_child reset_after_fork",
            "memguard.lifecycle.identity": "UNKNOWN is_running started",
            "memguard.lifecycle.queues": "drain",
            "memguard.lifecycle.registry": "Registration Registry",
            "memguard.lifecycle.service": "Service",
            "memguard.lifecycle.signals": "ChainedHandler",
            "memguard.lifecycle.ticker": "Ticker",
            "memguard.lifecycle.turn": "Turn",
            "memguard.lifecycle.wake": "Wake",
        },
    )
