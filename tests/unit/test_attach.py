"""The same end for anybody's emitter."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from memguard.bounded.events.attachment import attach
from memguard.bounded.lifetime import owners
from memguard.bounded.lifetime.scope import Scope
from memguard.errors import ConfigError, LifecycleError
from tests.waiting import wait_for


class Emitter:
    """Somebody's: it keeps listeners alive forever."""

    def __init__(self) -> None:
        self.listeners: list[tuple[str, Callable[..., Any]]] = []

    def on(self, event: str, listener: Callable[..., Any]) -> None:
        self.listeners.append((event, listener))

    def off(self, event: str, listener: Callable[..., Any]) -> None:
        self.listeners.remove((event, listener))

    def emit(self, *args: Any) -> list[Any]:
        return [listener(*args) for _, listener in list(self.listeners)]


class Ear:
    """Hears."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, value: Any) -> None:
        self.heard.append(value)

    async def hear_async(self, value: Any) -> Any:
        self.heard.append(value)
        return value


def janitor() -> None:
    """Do what the janitor would do in a second."""
    owners._owners._sweep()


def test_what_is_attached_is_removed_with_its_owner() -> None:
    emitter, ear = Emitter(), Ear()
    attach(emitter.on, emitter.off, "saved", ear.hear, owner=ear)
    emitter.emit(1)
    assert ear.heard == [1]
    seen = weakref.ref(ear)
    del ear
    assert seen() is None
    emitter.emit(2)
    janitor()
    assert emitter.listeners == []


def test_what_is_attached_is_removed_at_the_end_of_a_scope() -> None:
    emitter, heard = Emitter(), list[int]()
    with Scope() as scope:
        attach(emitter.on, emitter.off, "saved", heard.append, owner=scope)
        emitter.emit(1)
    emitter.emit(2)
    assert heard == [1]
    assert emitter.listeners == []


def test_a_handle_removes_it_now_or_never() -> None:
    emitter, owner = Emitter(), Ear()
    attach(emitter.on, emitter.off, "saved", print, owner=owner).close()
    assert emitter.listeners == []
    attach(emitter.on, emitter.off, "saved", print, owner=owner).forget()
    del owner
    janitor()
    assert emitter.listeners == [("saved", print)]


def test_what_cannot_be_added_is_not_removed() -> None:
    emitter, owner, removed = Emitter(), Ear(), list[Any]()

    def add(_value: object) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        attach(add, removed.append, 1, owner=owner)
    scope = Scope()
    scope.close()
    with pytest.raises(LifecycleError):
        attach(emitter.on, emitter.off, "saved", print, owner=scope)
    assert emitter.listeners == []
    del owner
    janitor()
    assert removed == []


def test_a_coroutine_method_stays_one() -> None:
    emitter, ear = Emitter(), Ear()
    attach(emitter.on, emitter.off, "saved", ear.hear_async, owner=ear)
    listener = emitter.listeners[0][1]
    assert asyncio.run(listener(3)) == 3
    del ear
    assert asyncio.run(listener(4)) is None


def test_what_would_keep_its_owner_alive_is_refused() -> None:
    emitter, owner, clients = Emitter(), Ear(), set[Ear]()
    with pytest.raises(ConfigError, match="the arguments hold the owner"):
        attach(clients.add, clients.discard, owner, owner=owner)
    with pytest.raises(ConfigError, match="an argument holds its owner through its closure"):
        attach(emitter.on, emitter.off, "saved", lambda: owner.heard, owner=owner)
    with pytest.raises(ConfigError, match="remove holds its owner through its bound method"):
        attach(print, owner.hear, owner=owner)
    assert not clients
    assert emitter.listeners == []


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match=r"add must be callable \(got int\)"):
        attach(3, print, owner=Ear())  # type: ignore[arg-type]  # reason: the point
    with pytest.raises(TypeError, match=r"remove must be callable \(got NoneType\)"):
        attach(print, None, owner=Ear())  # type: ignore[arg-type]  # reason: the point
    with pytest.raises(TypeError, match="owner is required"):
        attach(print, print, owner=None)


def test_attachments_that_come_and_go_leave_nothing() -> None:
    emitter = Emitter()
    for number in range(20_000):
        ear = Ear()
        attach(emitter.on, emitter.off, "saved", ear.hear, owner=ear)
        del ear
        if number % 100 == 0:
            janitor()
    janitor()
    wait_for(lambda: emitter.listeners == [])  # the real janitor may be about the last of them
