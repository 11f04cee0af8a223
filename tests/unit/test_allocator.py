"""Which malloc this is: told from where it really comes from, not from what is lying about."""

from __future__ import annotations

import functools
import sys

import pytest

from memguard.observe import allocator as module
from memguard.observe.allocator import (
    AllocatorState,
    identify,
    python_allocator,
    read_allocator,
    trim,
)

MIB = 1024**2
GLIBC = frozenset({"gnu_get_libc_version"})


@pytest.mark.parametrize(
    ("library", "symbols", "name"),
    [
        ("/lib/x86_64-linux-gnu/libc.so.6", GLIBC, "glibc"),
        ("/lib/x86_64-linux-gnu/libc-2.31.so", GLIBC, "glibc"),
        ("/lib/ld-musl-x86_64.so.1", frozenset(), "musl"),
        ("/usr/lib/libc.so", frozenset(), "musl"),
        ("/usr/lib/libjemalloc.so.2", GLIBC | {"mallctl"}, "jemalloc"),
        ("/usr/lib/libmimalloc.so.2.1", GLIBC | {"mi_version"}, "mimalloc"),
        ("/usr/lib/libtcmalloc_minimal.so.4", GLIBC | {"tc_version"}, "tcmalloc"),
        ("/opt/python/bin/python3.12", GLIBC | {"mallctl"}, "jemalloc"),
    ],
)
def test_the_library_that_malloc_comes_from_names_the_allocator(
    library: str, symbols: frozenset[str], name: str
) -> None:
    assert identify(library, symbols=symbols) == name


def test_an_allocator_that_is_merely_loaded_does_not_count() -> None:
    """Extension modules bring allocators of their own; malloc is still glibc's."""
    symbols = GLIBC | {"mallctl", "mi_version"}
    assert identify("/lib/x86_64-linux-gnu/libc.so.6", symbols=symbols) == "glibc"


@pytest.mark.skipif(sys.platform == "darwin", reason="every library there is called macos")
@pytest.mark.parametrize("library", ["/usr/lib/libasan.so.8", "/opt/python/bin/python3", None])
def test_a_malloc_of_unknown_origin_is_not_called_glibc(library: str | None) -> None:
    """Trimming what is not glibc's is what crashes."""
    assert identify(library, symbols=GLIBC) == "unknown"


@pytest.mark.parametrize(
    ("asked", "counts", "dev", "free_threaded", "name"),
    [
        ("", True, False, False, "pymalloc"),
        ("pymalloc", True, False, False, "pymalloc"),
        ("debug", True, False, False, "pymalloc_debug"),
        ("pymalloc_debug", True, False, False, "pymalloc_debug"),
        ("", True, True, False, "pymalloc_debug"),
        ("pymalloc", True, True, False, "pymalloc"),
        ("malloc", False, False, False, "malloc"),
        ("malloc_debug", False, False, False, "malloc_debug"),
        ("", True, False, True, "mimalloc"),
        ("mimalloc", True, False, False, "mimalloc"),
        ("malloc", True, False, False, "pymalloc"),
    ],
)
def test_pythons_allocator_is_told_from_the_blocks_it_counts(
    asked: str, *, counts: bool, dev: bool, free_threaded: bool, name: str
) -> None:
    found = python_allocator(
        asked=asked, counts_blocks=counts, dev_mode=dev, free_threaded=free_threaded
    )
    assert found == name


def test_the_state_of_this_process_adds_up() -> None:
    state = read_allocator()
    assert state.python.removesuffix("_debug") in {"pymalloc", "malloc", "mimalloc"}
    if state.name != "glibc" or state.in_use is None:
        assert state.free is None
        return
    assert state.free is not None
    assert state.mmapped is not None
    assert state.arena is not None
    assert 0 <= state.mmapped <= state.in_use
    assert state.in_use - state.mmapped + state.free == pytest.approx(state.arena, rel=0.05)


def test_a_large_block_is_seen_as_in_use_with_a_mapping_of_its_own() -> None:
    before = read_allocator()
    if before.in_use is None or before.mmapped is None:
        pytest.skip(f"{before.name} does not tell what it holds")
    ballast = bytearray(64 * MIB)
    after = read_allocator()
    assert after.in_use is not None
    assert after.mmapped is not None
    assert after.in_use - before.in_use >= len(ballast)
    assert after.mmapped - before.mmapped >= len(ballast)


def test_trim_gives_an_answer_only_where_it_did_something() -> None:
    answer = trim()
    assert (answer is not None) == read_allocator().can_trim


def test_without_a_c_library_to_ask_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_libc", lambda: None)
    assert trim() is None
    state = read_allocator()
    assert (state.in_use, state.free, state.can_trim) == (None, None, False)


def test_another_allocator_is_neither_measured_nor_trimmed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    musl = module._Libc("musl", "ld-musl-x86_64.so.1", None)
    monkeypatch.setattr(module, "_libc", lambda: musl)
    assert trim() is None
    assert read_allocator() == AllocatorState(
        name="musl", python=read_allocator().python, library="ld-musl-x86_64.so.1"
    )


def test_a_lookup_that_fails_is_remembered_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise OSError("no such library")

    monkeypatch.setattr(module, "_libc", functools.cache(module._libc.__wrapped__))
    monkeypatch.setattr(module, "_look_up", fail)
    assert trim() is None
    assert trim() is None
    assert len(calls) == 1
