"""Types of libraries are found by where and what they are; whoever only looks like one is not."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from typing import Any

import pytest

from memguard.bounded.sizing import libraries
from memguard.bounded.sizing.alone import is_known, shallow_size
from memguard.bounded.sizing.contents import bytes_of, size_of


class Storage:
    """Data that tensors share."""

    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size

    def data_ptr(self) -> int:
        return self.address

    def nbytes(self) -> int:
        return self.size


def make_tensor() -> type[Any]:
    class Tensor:
        __module__ = "torch"
        __qualname__ = "Tensor"
        is_cpu = is_leaf = True
        requires_grad = False
        layout: Any = "strided"
        grad = None

        def __init__(self, storage: Storage | None) -> None:
            self.storage = storage

        def untyped_storage(self) -> Storage:
            if self.storage is None:
                raise NotImplementedError("a tensor without storage")
            return self.storage

    return Tensor


@pytest.fixture
def tensor(monkeypatch: pytest.MonkeyPatch) -> type[Any]:
    """A library as it would be loaded by the program."""
    kind = make_tensor()
    module = types.ModuleType("torch")
    vars(module).update(Tensor=kind, strided="strided")
    monkeypatch.setitem(sys.modules, "torch", module)
    return kind


def test_tensors_of_one_storage_count_it_once(tensor: type[Any]) -> None:
    storage = Storage(4096, 1_000_000)
    one, two, other = tensor(storage), tensor(storage), tensor(Storage(8192, 1_000_000))
    assert 1_000_000 < bytes_of(one) < 1_001_000
    assert 1_000_000 < size_of([one, two]) < 1_002_500
    assert 2_000_000 < size_of([one, two, other]) < 2_003_000
    assert not size_of([one, two]).estimated
    assert is_known(tensor)
    assert shallow_size(one) > 1_000_000


def test_a_type_that_only_says_it_is_of_a_library_is_not_taken_for_it(tensor: type[Any]) -> None:
    pretended = make_tensor()
    assert size_of(pretended(Storage(1, 10**9))) < 10_000
    assert size_of(tensor(Storage(1, 10**9))) > 10**9


def test_data_of_another_device_weigh_nothing_here(tensor: type[Any]) -> None:
    elsewhere = tensor(Storage(1, 10**9))
    elsewhere.is_cpu = False
    assert bytes_of(elsewhere) < 1_000


def test_what_a_library_refuses_is_opaque(tensor: type[Any]) -> None:
    size = size_of([tensor(None)])
    assert size.estimated
    assert size.opaque == ("torch.Tensor",)


def test_a_tensor_with_a_graph_counts_its_data_and_is_opaque(tensor: type[Any]) -> None:
    computed = tensor(Storage(1, 50_000))
    computed.requires_grad, computed.is_leaf = True, False
    size = size_of(computed)
    assert size > 50_000
    assert size.opaque == ("torch.Tensor",)


def test_a_gradient_counts(tensor: type[Any]) -> None:
    trained = tensor(Storage(1, 50_000))
    trained.requires_grad, trained.grad = True, tensor(Storage(2, 50_000))
    assert 100_000 < size_of(trained) < 102_000


def test_a_subclass_counts_its_attributes_besides(tensor: type[Any]) -> None:
    class Named(tensor):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(Storage(1, 50_000))
            self.name = bytes(20_000)

    size = size_of(Named())
    assert 70_000 < size < 72_000
    assert not size.opaque


def test_a_subclass_with_rules_of_its_own_is_not_asked(tensor: type[Any]) -> None:
    class Traced(tensor):  # type: ignore[misc]
        def __torch_function__(self) -> None:
            raise AssertionError("a stranger's code was called")

        def untyped_storage(self) -> Storage:
            raise AssertionError("a stranger's code was called")

    assert size_of(Traced(Storage(1, 10**9))) < 10_000


def test_a_type_that_died_is_not_taken_for_the_next_one_at_its_place() -> None:
    gc.freeze()  # what other tests keep need not be looked through fifty times
    try:
        for _ in range(50):
            kind = type("Short", (), {"payload": None})
            gone = weakref.ref(kind)
            assert is_known(kind)
            del kind
            gc.collect()
            assert gone() is None, "what is known about a type does not keep it"
    finally:
        gc.unfreeze()


def test_what_is_known_about_types_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "_MOST_TRAITS", 50)
    kinds = [type(f"Kind{number}", (), {}) for number in range(200)]
    for kind in kinds:
        assert is_known(kind)
    assert len(libraries._traits) <= 50


def test_an_extensions_type_that_says_it_is_a_builtin_is_opaque() -> None:
    """Pillow's and polars' do, for their authors gave them no module."""
    image = pytest.importorskip("PIL._imaging")
    font = image.outline()
    assert type(font).__module__ == "builtins" or "PIL" in type(font).__module__
    assert not is_known(type(font))
    assert size_of(font).opaque
