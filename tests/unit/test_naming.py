"""Names are read past whatever a stranger's class may have to say about it."""

from __future__ import annotations

import collections
import re
import sqlite3
import sys
import types
import zlib
from typing import Any

import pytest

from memguard.heap import naming
from memguard.leaks.holders import links
from tests import strangers


class Plain:
    """Attributes in a dict."""

    shared: object = None

    def __init__(self, held: object) -> None:
        self.jobs = held

    def method(self) -> None:
        """Be a method."""


class Slotted:
    """Attributes in slots."""

    __slots__ = ("jobs", "unset")

    def __init__(self, held: object) -> None:
        self.jobs = held


class SlottedChild(Slotted):
    """Slots of its own and of its parent."""

    __slots__ = ("more",)


def closing_over(payload: object) -> Any:
    other = 1

    def listener() -> object:
        return payload, other

    return listener


def test_a_type_is_named_in_full_and_a_builtin_without_module() -> None:
    assert naming.type_name(dict) == "dict"
    assert naming.type_name(collections.OrderedDict) == "collections.OrderedDict"
    assert naming.type_name(Plain) == f"{__name__}.Plain"
    assert naming.type_name(types.FunctionType) == "function"
    assert naming.type_name(collections.deque) == "collections.deque"


def test_a_type_without_a_proper_module_or_name_is_still_named() -> None:
    odd = type("odd\nname", (), {"__module__": 7})
    assert naming.type_name(odd) == "odd?name"
    long = type("x" * 500, (), {"__module__": "m"})
    assert len(naming.type_name(long)) <= naming.SHORT + len("m.")


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\u202eb"])
def test_a_name_never_carries_control_characters(text: str) -> None:
    assert naming.clean(text).isprintable()


def test_what_is_no_name_is_a_question_mark() -> None:
    class Text(str):
        __slots__ = ()

    assert [naming.clean(value) for value in (7, None, b"x", Text("secret"))] == ["?"] * 4


def test_attributes_slots_and_class_attributes_are_links() -> None:
    held: list[int] = []
    assert naming.attribute_link(Plain(held), held) == ".jobs"
    assert naming.attribute_link(Slotted(held), held) == ".jobs"
    assert naming.attribute_link(SlottedChild(held), held) == ".jobs"
    holder = type("Holder", (), {"JOBS": held})
    assert naming.attribute_link(holder, held) == ".JOBS"
    assert naming.attribute_link(Plain(None), held) is None


def test_a_path_through_attributes_and_containers_reads_like_code() -> None:
    target: list[int] = []
    inner = {"ada@example.org": target}
    holder = Plain(inner)
    assert links.links([holder, inner, target]) == ".jobs[str]"
    assert links.links([holder, vars(holder), inner, target]) == ".jobs[str]"
    assert links.links([[target], target]) == "[…]"
    assert links.links([(target,), target]) == "[…]"
    assert links.links([collections.deque([target]), target]) == "[…]"
    assert links.links([collections.OrderedDict({3: target}), target]) == "[int]"
    assert links.links([collections.defaultdict(list, {(1,): target}), target]) == "[tuple]"


def test_a_key_is_named_by_its_type_and_never_by_its_value() -> None:
    target: list[int] = []
    assert "ada" not in links.links([{"ada@example.org": target}, target])


def test_a_closure_names_its_variable() -> None:
    held: list[int] = []
    listener = closing_over(held)
    cells = listener.__closure__
    cell = next(cell for cell in cells if cell.cell_contents is held)
    assert links.links([listener, cells, cell, held]) == ".<closure payload>"


def test_a_bound_method_leads_to_its_object() -> None:
    holder = Plain([])
    assert links.links([holder.method, holder]) == ".__self__"


def test_instance_dicts_are_found_and_properties_of_that_name_are_not_called() -> None:
    holder = Plain(1)
    assert naming.instance_dict(holder) is vars(holder)
    assert naming.instance_dict(Slotted(1)) is None
    assert naming.instance_dict(strangers.DictProperty(1)) is None


def test_slots_that_are_not_set_are_left_out() -> None:
    assert list(naming.slots_of(Slotted(5))) == [("jobs", 5)]


def test_no_stranger_is_touched() -> None:
    """Every question of this room is asked of every hostile object."""
    held: list[int] = []
    for stranger in strangers.make(held):
        naming.type_name(type(stranger))
        naming.is_type(stranger)
        naming.is_module(stranger)
        naming.instance_dict(stranger)
        list(naming.slots_of(stranger))
        naming.attribute_link(stranger, held)
        links.links([stranger, held])
        links.links([[stranger], stranger, held])
    assert naming.type_name(strangers.OfHostileMeta) == "tests.strangers.OfHostileMeta"
    assert strangers.touched == []


def test_the_value_of_a_hostile_attribute_is_still_found() -> None:
    held: list[int] = []
    made = strangers.make(held)
    assert naming.attribute_link(made[0], held) == ".held"
    assert naming.attribute_link(made[1], held) == ".held"
    assert naming.attribute_link(made[2], held) == ".held"


def test_a_proxy_is_neither_a_type_nor_a_module() -> None:
    class Liar:
        __class__ = types.ModuleType  # type: ignore[assignment] # reason: this is the lie

    assert isinstance(Liar(), types.ModuleType)
    assert not naming.is_module(Liar())
    assert not naming.is_type(Liar())
    assert naming.is_module(sys)
    assert naming.module_dict(sys) is vars(sys)


def test_a_value_beyond_the_scan_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naming, "SCAN", 3)
    target: list[int] = []
    assert naming.find_key({1: 0, 2: 0, 3: 0, 4: target}, target) == (False, None)
    assert naming.find_key({1: 0, 2: 0, 3: target}, target) == (True, 3)


class Findable:
    """Its name leads to it."""

    class Inner:
        """So does the name of this one."""


def test_a_class_that_its_name_leads_to_is_not_lost() -> None:
    class Local:
        pass

    for kind in (Findable, Findable.Inner, Local, dict, type(sys), type(re.compile(""))):
        assert not naming.is_lost(kind)


def test_a_class_made_by_a_call_is_lost_unless_it_was_put_where_its_name_says() -> None:
    row = type("Row", (), {"__module__": __name__})
    assert naming.is_lost(row)
    assert naming.is_lost(type("Findable", (), {"__module__": __name__}))
    assert not naming.is_lost(type("Row", (), {"__module__": "a.module.nobody.knows"}))
    assert not naming.is_lost(type("Row", (), {"__module__": 7}))


@pytest.mark.parametrize(
    "kind", [type(zlib.compressobj()), sqlite3.Connection, type(re.compile(""))]
)
def test_a_class_written_in_c_outside_the_builtins_is_told(kind: type) -> None:
    assert naming.is_of_an_extension(kind)


@pytest.mark.parametrize(
    "kind",
    [
        *(dict, str, Findable, Slotted, collections.UserDict),
        type("Borrowing", (), {"__repr__": object.__repr__, "get": dict.get}),
    ],
)
def test_a_builtin_and_a_class_of_the_program_are_no_extensions(kind: type) -> None:
    assert not naming.is_of_an_extension(kind)
