"""
How long things live: scopes that end what they own, and weak references that keep nothing.

The other containers use it to let go of what belongs to an owner that has died.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.lifetime import callables, owners
    from memguard.bounded.lifetime.callables import CO_COROUTINE, Lifeline, is_coroutine_function
    from memguard.bounded.lifetime.identity_map import WeakIdentityMap, WeakIdentityMapStatistics
    from memguard.bounded.lifetime.owners import Estate
    from memguard.bounded.lifetime.scope import Disposal, Scope, ScopeStatistics
    from memguard.bounded.lifetime.value_cache import WeakValueCache, WeakValueCacheStatistics
    from memguard.bounded.lifetime.weak import WeakAttribute, on_collect, weak_callback

__all__ = [
    "CO_COROUTINE",
    "Disposal",
    "Estate",
    "Lifeline",
    "Scope",
    "ScopeStatistics",
    "WeakAttribute",
    "WeakIdentityMap",
    "WeakIdentityMapStatistics",
    "WeakValueCache",
    "WeakValueCacheStatistics",
    "callables",
    "is_coroutine_function",
    "on_collect",
    "owners",
    "weak_callback",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.lifetime": "callables owners",
            "memguard.bounded.lifetime.callables": "CO_COROUTINE Lifeline is_coroutine_function",
            "memguard.bounded.lifetime.identity_map": "WeakIdentityMap WeakIdentityMapStatistics",
            "memguard.bounded.lifetime.owners": "Estate",
            "memguard.bounded.lifetime.scope": "Disposal Scope ScopeStatistics",
            "memguard.bounded.lifetime.value_cache": "WeakValueCache WeakValueCacheStatistics",
            "memguard.bounded.lifetime.weak": "WeakAttribute on_collect weak_callback",
        },
    )
