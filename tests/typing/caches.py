"""What type checkers know of the keys and values of a `BoundedCache`."""

from __future__ import annotations

from typing import assert_type

from memguard import BoundedCache


class User:
    """A value."""

    name = "Ada"


def load(key: str) -> User:
    """Return the user of *key*."""
    user = User()
    user.name = key
    return user


async def load_later(key: str) -> User:
    """Return the user of *key*."""
    return load(key)


cache = BoundedCache[str, User](maxsize=100, ttl="10m", getsizeof=lambda user: len(user.name))
given: BoundedCache[str, User] = BoundedCache(100)

assert_type(cache["ada"], User)
assert_type(cache.get("ada"), User | None)
assert_type(cache.get("ada", User()), User)
assert_type(cache.get("ada", "nobody"), User | str)
assert_type(cache.pop("ada"), User)
assert_type(cache.pop("ada", None), User | None)
assert_type(cache.pop("ada", User()), User)
assert_type(cache.popitem(), tuple[str, User])
assert_type(cache.setdefault("ada", User()), User)
assert_type(cache.get_or_load("ada", load), User)
assert_type(cache.get_or_load("ada", load, ttl=10, refresh_after=5), User)
assert_type(list(cache), list[str])
assert_type(dict(cache.items()), dict[str, User])
assert_type([value.name for value in cache.values()], list[str])
assert_type("ada" in cache, bool)
cache["ada"] = User()
cache["ada"] = "Ada"  # type: ignore[assignment]  # reason: a string is no user
cache.set("ada", "Ada")  # type: ignore[arg-type]  # reason: a string is no user
cache[1]  # type: ignore[index]  # reason: a key is a string
cache.get_or_load(1, load)  # type: ignore[arg-type]  # reason: a key is a string
BoundedCache(100, maxbites="1MiB")  # type: ignore[call-arg]  # reason: no such option


async def coroutines() -> None:
    """Await what is loaded."""
    assert_type(await cache.aget_or_load("ada", load_later), User)
