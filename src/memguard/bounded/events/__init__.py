"""
Listeners that do not outlive their owners.

`ListenerRegistry` emits events; `attach` adds a listener to an emitter of another library.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.events.attachment import attach as attach
    from memguard.bounded.events.registry import ListenerRegistry as ListenerRegistry
    from memguard.bounded.events.registry import (
        ListenerRegistryStatistics as ListenerRegistryStatistics,
    )
    from memguard.bounded.events.subscription import Subscription as Subscription
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.events.attachment": "attach",
            "memguard.bounded.events.registry": "ListenerRegistry ListenerRegistryStatistics",
            "memguard.bounded.events.subscription": "Subscription",
        },
    )
