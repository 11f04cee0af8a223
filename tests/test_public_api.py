"""The front door: what it names is there, is documented, and does not change unseen."""

from __future__ import annotations

import difflib
import inspect
import types
from typing import Any

import pytest

import memguard
from tests import public_api

each_name = pytest.mark.parametrize("name", memguard.__all__)
CLASSES = [
    name
    for name in memguard.__all__
    if public_api.kind_of(getattr(memguard, name)) in ("class", "data")
]
DATA = [name for name in CLASSES if public_api.kind_of(getattr(memguard, name)) == "data"]
OWNERS = [name for name in CLASSES if public_api.kind_of(getattr(memguard, name)) == "class"]


def test_the_list_of_names_is_sorted_and_has_each_once() -> None:
    assert memguard.__all__ == sorted(set(memguard.__all__))


def test_every_public_name_of_the_package_is_on_the_list() -> None:
    """Beside the names on the list there are its modules, and the word for type checkers."""
    public = {
        name
        for name, thing in vars(memguard).items()
        if not name.startswith("_") and not isinstance(thing, types.ModuleType)
    }
    assert public - {"TYPE_CHECKING"} <= set(memguard.__all__) == set(dir(memguard))


def test_a_name_that_is_not_on_the_list_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'memguard' has no attribute 'LRUCache'"):
        memguard.LRUCache  # type: ignore[attr-defined]  # noqa: B018 - reason: asked for on purpose


@each_name
def test_a_name_on_the_list_is_there(name: str) -> None:
    assert hasattr(memguard, name)


@each_name
def test_a_public_name_says_what_it_is(name: str) -> None:
    assert public_api.summary_of(name).endswith("."), f"{name} has no docstring of its own"


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_member_says_what_the_caller_gets(name: str) -> None:
    silent = [
        member_name
        for member_name, member in public_api.public_members(getattr(memguard, name))
        if (callable(member) or isinstance(member, property | classmethod | staticmethod))
        and not (member.__doc__ or "").strip()
    ]
    assert not silent, f"{name} has members without a docstring"


@pytest.mark.parametrize("name", OWNERS)
def test_a_public_class_states_its_bound_its_lock_and_what_it_keeps_alive(name: str) -> None:
    text = public_api.own_documentation(getattr(memguard, name)) or ""
    positions = [text.find(fact) for fact in ("Bounded by:", "Locks:", "Keeps alive:")]
    assert -1 not in positions, f"{name} leaves out one of the three facts"
    assert positions == sorted(positions), f"{name} states the three facts in another order"


@each_name
def test_a_public_class_is_known_by_its_public_name_in_its_module(name: str) -> None:
    """So that pickles and tracebacks name something that can be found."""
    thing = getattr(memguard, name)
    if inspect.isclass(thing):
        assert getattr(inspect.getmodule(thing), thing.__name__) is thing


@pytest.mark.parametrize("name", DATA)
def test_public_data_cannot_be_changed_after_the_fact(name: str) -> None:
    kind: Any = getattr(memguard, name)
    assert kind.__dataclass_params__.frozen


def test_the_page_of_public_names_is_up_to_date() -> None:
    assert public_api.DOCUMENT.read_text("utf-8") == public_api.document(), (
        f"docs/api.md is out of date; renew it with: {public_api.RENEW}"
    )


def test_no_signature_changed_unseen() -> None:
    recorded = public_api.SNAPSHOT.read_text("utf-8").splitlines()
    now = public_api.snapshot().splitlines()
    changes = list(difflib.unified_diff(recorded, now, "recorded", "now", lineterm="", n=0))
    assert not changes, (
        "the public API changed; if that is meant, tell it in CHANGELOG.md and renew the record "
        f"with: {public_api.RENEW}\n" + "\n".join(changes)
    )
