"""Attributes that do not keep their value alive."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from memguard.bounded.lifetime.weak_attribute import WeakAttribute


class Plain:
    """An ordinary object."""


class Node:
    """A tree with weak links up."""

    parent = WeakAttribute["Node"]()

    def __init__(self, parent: Node | None = None) -> None:
        self.parent = parent
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)


class SlottedNode:
    """The same, with slots."""

    __slots__ = ("__weakref__", "_weak_parent")

    parent = WeakAttribute["SlottedNode"]()


class Homeless:
    """Has no place for the link."""

    __slots__ = ("__weakref__",)

    parent = WeakAttribute["Homeless"]()


@dataclass(frozen=True)
class Frozen:
    """A frozen dataclass with a link."""

    parent_given: Any
    parent = WeakAttribute[Any]()

    def __post_init__(self) -> None:
        type(self).__dict__["parent"].__set__(self, self.parent_given)


@pytest.mark.parametrize("kind", [Node, SlottedNode])
def test_a_parent_link_keeps_nothing_alive_and_ends_with_the_parent(kind: Any) -> None:
    root, child = kind(), kind()
    assert child.parent is None
    child.parent = root
    assert child.parent is root
    reference = weakref.ref(root)
    del root
    assert reference() is None
    assert child.parent is None


@pytest.mark.parametrize("kind", [Node, SlottedNode])
def test_a_link_can_be_deleted_and_set_again(kind: Any) -> None:
    root, child = kind(), kind()
    child.parent = root
    del child.parent
    del child.parent
    assert child.parent is None
    child.parent = root
    child.parent = None
    assert child.parent is None


def test_a_tree_with_links_needs_no_collector() -> None:
    gc.disable()
    try:
        root = Node()
        child = weakref.ref(Node(root))
        del root
        assert child() is None
    finally:
        gc.enable()


def test_a_pickled_tree_keeps_its_links() -> None:
    root = Node()
    Node(Node(root))
    again = pickle.loads(pickle.dumps(root))  # noqa: S301 - reason: dumped here
    assert again.children[0].parent is again
    assert again.children[0].children[0].parent is again.children[0]


def test_a_pickled_child_has_no_link_when_nothing_keeps_the_parent() -> None:
    root = Node()
    again = pickle.loads(pickle.dumps(Node(root)))  # noqa: S301 - reason: dumped here
    gc.collect()
    assert again.parent is None
    again = pickle.loads(pickle.dumps(again))  # noqa: S301 - reason: dumped here
    assert again.parent is None


def test_copies_are_linked_to_copies_and_a_lone_copy_to_the_original() -> None:
    root = Node()
    child = Node(root)
    assert copy.copy(child).parent is root
    assert copy.deepcopy(child).parent is root
    again = copy.deepcopy(root)
    assert again.children[0].parent is again
    orphan = Node(Node())
    assert copy.deepcopy(orphan).parent is None


def test_a_frozen_dataclass_may_set_its_link() -> None:
    root = Plain()
    assert Frozen(root).parent is root


def test_what_a_link_cannot_hold_or_has_no_place_for_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"Node.parent must be weakly referenceable or None \(got"):
        Node().parent = 3  # type: ignore[assignment]  # reason: the point of the test
    homeless = Homeless()
    assert homeless.parent is None
    with pytest.raises(AttributeError, match="add '_weak_parent' to the __slots__ of Homeless"):
        homeless.parent = homeless
    assert isinstance(Node.parent, WeakAttribute)
