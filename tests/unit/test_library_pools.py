"""Allocators of libraries: asked if the library is loaded and in use, by what it documents."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from memguard.relief.libraries import LIBRARIES, LibraryPool, loaded_pools
from memguard.relief.steps import Relief
from tests.relieving import MIB


def torch(*, cuda: bool = False, kind: str | None = None, pinned: int = 0) -> Any:
    """Stand in for torch with a device, which no test machine has."""
    kept = {"pinned": pinned, "metal": 7 * MIB}

    def empty_host_cache() -> None:
        kept["pinned"] = 0

    def empty_cache() -> None:
        kept["metal"] = 2 * MIB

    return SimpleNamespace(
        accelerator=SimpleNamespace(
            memory=SimpleNamespace(empty_host_cache=empty_host_cache, empty_cache=empty_cache),
            current_accelerator=lambda: None if kind is None else SimpleNamespace(type=kind),
        ),
        cuda=SimpleNamespace(
            is_initialized=lambda: cuda,
            host_memory_stats=lambda: {
                "allocated_bytes.current": 3 * MIB + kept["pinned"],
                "active_bytes.current": 3 * MIB,
            },
        ),
        mps=SimpleNamespace(driver_allocated_memory=lambda: kept["metal"]),
    )


def test_nothing_is_asked_that_is_not_loaded() -> None:
    assert loaded_pools({}) == []


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_a_library_that_is_being_imported_is_left_alone(name: str) -> None:
    assert loaded_pools({name: SimpleNamespace()}) == []


def test_pinned_memory_is_returned_and_counted() -> None:
    [pool] = loaded_pools({"torch": torch(cuda=True, pinned=5 * MIB)})
    assert (pool.name, pool.release()) == ("torch", 5 * MIB)


def test_an_older_torch_does_not_say_how_much_is_pinned() -> None:
    library = torch(cuda=True)
    del library.cuda.host_memory_stats
    [pool] = loaded_pools({"torch": library})
    assert pool.release() is None


def test_memory_that_metal_shares_is_returned() -> None:
    [pool] = loaded_pools({"torch": torch(kind="mps")})
    assert pool.release() == 5 * MIB


@pytest.mark.parametrize("kind", [None, "cuda"])
def test_no_device_is_set_up_to_ask(kind: str | None) -> None:
    assert loaded_pools({"torch": torch(kind=kind)}) == []


def test_each_library_is_a_step_after_trim_and_one_that_fails_ends_no_run() -> None:
    def fail() -> None:
        raise RuntimeError("a device is gone")

    relief = Relief()
    relief._means.library_pools = lambda: [
        LibraryPool(name="pyarrow", release=fail),
        LibraryPool(name="torch", release=lambda: 2 * MIB),
    ]
    steps = relief.relieve().steps
    assert [step.name for step in steps[-3:]] == ["pyarrow", "torch", "callbacks"]
    assert steps[-3].skipped == "failed: RuntimeError"
    assert (steps[-2].freed, steps[-2].items) == (2 * MIB, 1)
    assert relief.statistics().errors == 1


def test_a_library_that_frees_nothing_is_left_out_ever_longer() -> None:
    calls = []
    relief = Relief()
    relief._means.library_pools = lambda: [
        LibraryPool(name="torch", release=lambda: calls.append(1))
    ]
    for _ in range(8):
        relief.relieve("8MiB", force=False)
    assert 1 <= len(calls) <= 4
