"""
Lifetimes: scopes that end what they own, and weak references that keep nothing alive.

The other containers use them to release what belongs to a dead owner.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.lifetime import callables as callables
    from memguard.bounded.lifetime import owners as owners
    from memguard.bounded.lifetime import registrations as registrations
    from memguard.bounded.lifetime.callables import CO_COROUTINE as CO_COROUTINE
    from memguard.bounded.lifetime.callables import Lifeline as Lifeline
    from memguard.bounded.lifetime.callables import WeakTarget as WeakTarget
    from memguard.bounded.lifetime.callables import is_coroutine_function as is_coroutine_function
    from memguard.bounded.lifetime.callables import weak_callback as weak_callback
    from memguard.bounded.lifetime.finalizers import on_collect as on_collect
    from memguard.bounded.lifetime.identity_map import WeakIdentityMap as WeakIdentityMap
    from memguard.bounded.lifetime.identity_map import (
        WeakIdentityMapStatistics as WeakIdentityMapStatistics,
    )
    from memguard.bounded.lifetime.owners import Owned as Owned
    from memguard.bounded.lifetime.registrations import Bounds as Bounds
    from memguard.bounded.lifetime.scope import Disposal as Disposal
    from memguard.bounded.lifetime.scope import Scope as Scope
    from memguard.bounded.lifetime.scope import ScopeStatistics as ScopeStatistics
    from memguard.bounded.lifetime.value_cache import WeakValueCache as WeakValueCache
    from memguard.bounded.lifetime.value_cache import (
        WeakValueCacheStatistics as WeakValueCacheStatistics,
    )
    from memguard.bounded.lifetime.weak_attribute import WeakAttribute as WeakAttribute
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.lifetime": "callables owners registrations",
            "memguard.bounded.lifetime.callables": (
                "CO_COROUTINE Lifeline WeakTarget is_coroutine_function weak_callback"
            ),
            "memguard.bounded.lifetime.finalizers": "on_collect",
            "memguard.bounded.lifetime.identity_map": "WeakIdentityMap WeakIdentityMapStatistics",
            "memguard.bounded.lifetime.owners": "Owned",
            "memguard.bounded.lifetime.registrations": "Bounds",
            "memguard.bounded.lifetime.scope": "Disposal Scope ScopeStatistics",
            "memguard.bounded.lifetime.value_cache": "WeakValueCache WeakValueCacheStatistics",
            "memguard.bounded.lifetime.weak_attribute": "WeakAttribute",
        },
    )
