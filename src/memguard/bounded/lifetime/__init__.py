"""
Lifetimes: scopes that end what they own, and weak references that keep nothing alive.

The other containers use them to release what belongs to a dead owner.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.lifetime import callables, owners, registrations
    from memguard.bounded.lifetime.callables import (
        CO_COROUTINE,
        Lifeline,
        WeakTarget,
        is_coroutine_function,
        weak_callback,
    )
    from memguard.bounded.lifetime.finalizers import on_collect
    from memguard.bounded.lifetime.identity_map import WeakIdentityMap, WeakIdentityMapStatistics
    from memguard.bounded.lifetime.owners import Owned
    from memguard.bounded.lifetime.registrations import Bounds
    from memguard.bounded.lifetime.scope import Disposal, Scope, ScopeStatistics
    from memguard.bounded.lifetime.value_cache import WeakValueCache, WeakValueCacheStatistics
    from memguard.bounded.lifetime.weak_attribute import WeakAttribute

__all__ = [
    "CO_COROUTINE",
    "Bounds",
    "Disposal",
    "Lifeline",
    "Owned",
    "Scope",
    "ScopeStatistics",
    "WeakAttribute",
    "WeakIdentityMap",
    "WeakIdentityMapStatistics",
    "WeakTarget",
    "WeakValueCache",
    "WeakValueCacheStatistics",
    "callables",
    "is_coroutine_function",
    "on_collect",
    "owners",
    "registrations",
    "weak_callback",
]

if not TYPE_CHECKING:
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
