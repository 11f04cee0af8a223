"""BufferPool: reuse, bounds, quarantine, and that nothing of a former holder can be read."""

from __future__ import annotations

import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from memguard.bounded import inventory
from memguard.bounded.pool.buffer_pool import BufferPool
from memguard.errors import ConfigError, LifecycleError, PoolExhaustedError, ValueTooLargeError


@pytest.fixture
def pool() -> Iterator[BufferPool]:
    with BufferPool([64, "1KiB"], maxbytes=4096, name="buffers") as made:
        yield made


def test_a_lease_has_the_length_that_was_asked_for(pool: BufferPool) -> None:
    for nbytes in (1, 63, 64, 65, 1024):
        with pool.lease(nbytes) as view:
            assert (view.nbytes, view.readonly, view.format) == (nbytes, False, "B")


def test_a_block_of_the_smallest_size_that_fits_is_used(pool: BufferPool) -> None:
    with pool.lease(64), pool.lease(65):
        assert pool.footprint() == inventory.Footprint(items=2, bytes=64 + 1024)


def test_blocks_are_used_again(pool: BufferPool) -> None:
    for _ in range(10):
        with pool.lease(10):
            pass
    assert pool.statistics().created == 1


def test_no_byte_of_the_former_holder_is_readable(pool: BufferPool) -> None:
    for size in (1, 64, 700, 1024):
        with pool.lease(size) as view:
            view[:] = b"\xa5" * size
        larger = 64 if size <= 64 else 1024
        with pool.lease(larger) as view:
            assert bytes(view) == bytes(larger)
            assert not any(bytes(view.obj)), "nor beyond the lease"
    assert pool.statistics().created == 2


def test_large_blocks_are_zeroed_to_their_end() -> None:
    size = 3 * 64 * 1024 + 17
    with BufferPool([size], maxbytes=size) as pool:
        with pool.lease(size) as view:
            view[:] = b"\xff" * size
        with pool.lease(size) as view:
            assert bytes(view) == bytes(size)


def test_zeroing_can_be_left_out() -> None:
    with BufferPool([64], maxbytes=64, zero=False) as pool:
        with pool.lease(3) as view:
            view[:] = b"abc"
        with pool.lease(3) as view:
            assert bytes(view) == b"abc"


def test_releasing_ends_the_view(pool: BufferPool) -> None:
    with pool.lease(10) as view:
        pass
    with pytest.raises(ValueError, match="released memoryview"):
        view[0] = 1


def test_a_block_with_a_living_slice_is_quarantined_until_the_slice_is_gone(
    pool: BufferPool,
) -> None:
    with pool.lease(64) as view:
        piece = view[:4]
    assert (pool.statistics().quarantined, pool.statistics().idle) == (1, 0)
    with pool.lease(64) as other:
        other[:] = b"x" * 64
        assert bytes(piece) == bytes(4), "two holders never share memory"
        piece[:] = b"late"
        assert bytes(other) == b"x" * 64
    piece.release()
    assert (pool.statistics().quarantined, pool.statistics().idle) == (0, 2)
    with pool.lease(64) as first, pool.lease(64) as second:
        assert not any(first)
        assert not any(second)


def test_a_block_with_a_living_array_is_quarantined_too(pool: BufferPool) -> None:
    with pool.lease(64) as view:
        numbers = view.cast("Q")
        exporter = memoryview(view)  # as numpy.frombuffer does: an export of the view itself
    assert pool.statistics().quarantined == 1
    exporter.release()
    numbers.release()
    view.release()
    assert pool.statistics().quarantined == 0


def test_a_view_kept_longer_than_its_dropped_lease_is_safe_to_use(pool: BufferPool) -> None:
    view = pool.lease(64).view
    statistics = pool.statistics()
    assert (statistics.lost, statistics.quarantined) == (1, 1)
    with pool.lease(64) as other:
        view[0] = 7
        assert other[0] == 0
    view.release()
    assert pool.statistics().quarantined == 0


def test_a_dropped_lease_is_counted_its_place_named_and_its_block_recovered(
    pool: BufferPool, caplog: pytest.LogCaptureFixture
) -> None:
    line = inspect.currentframe().f_lineno + 2  # type: ignore[union-attr]  # reason: CPython has frames
    for _ in range(3):
        pool.lease(64).view[:] = b"s" * 64
    with pool.lease(64) as view:
        assert not any(view)
    statistics = pool.statistics()
    assert (statistics.created, statistics.lost) == (1, 3)
    [(site, losses)] = statistics.lost_sites
    assert losses == 3
    assert f"test_buffers.py:{line} " in site
    assert len([record for record in caplog.records if "pool.lease_lost" in record.message]) == 1


def test_maxbytes_is_never_exceeded_and_the_refusal_names_the_holders(pool: BufferPool) -> None:
    held = [pool.lease(1024) for _ in range(4)]
    with pytest.raises(PoolExhaustedError, match=r"no room for a block of 64 B.*4x .*test_buff"):
        pool.lease(1)
    assert pool.statistics().refused == 1
    held.pop().release()
    pool.lease(1).release()


def test_idle_blocks_of_another_size_make_room(pool: BufferPool) -> None:
    held = [pool.lease(1024) for _ in range(4)]
    for lease in held:
        lease.release()
    with pool.lease(1):
        statistics = pool.statistics()
    assert (statistics.bytes, statistics.disposed) == (3 * 1024 + 64, 1)


def test_quarantined_blocks_count_towards_the_bound(pool: BufferPool) -> None:
    pieces = []
    for _ in range(4):
        with pool.lease(1024) as view:
            pieces.append(view[:1])
    with pytest.raises(PoolExhaustedError, match="4 blocks are in quarantine"):
        pool.lease(1)
    del pieces, view
    pool.lease(1).release()


def test_a_lease_larger_than_the_largest_block_is_an_error(pool: BufferPool) -> None:
    with pytest.raises(ValueTooLargeError, match=r"at most 1024 bytes.*\(got 1025\)"):
        pool.lease(1025)


@pytest.mark.parametrize(
    ("nbytes", "error"), [(0, ConfigError), (-1, ConfigError), (1.5, TypeError), ("x", ConfigError)]
)
def test_a_bad_length_is_an_error(pool: BufferPool, nbytes: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="nbytes"):
        pool.lease(nbytes)


def test_a_second_release_is_an_error(pool: BufferPool) -> None:
    lease = pool.lease(1)
    lease.release()
    with pytest.raises(LifecycleError, match="already over"):
        lease.release()
    with pytest.raises(LifecycleError, match="this lease is over"):
        _ = lease.view
    assert pool.statistics().idle == 1


def test_reclaim_gives_up_idle_blocks_the_largest_first(pool: BufferPool) -> None:
    leases = [pool.lease(64), pool.lease(1024), pool.lease(1024)]
    held = pool.lease(64)
    for lease in leases:
        lease.release()
    assert pool.reclaim(fraction=0.4) == inventory.Reclaimed(items=1, bytes=1024)
    assert pool.reclaim(to_bytes="1KiB") == inventory.Reclaimed(items=1, bytes=1024)
    assert pool.reclaim() == inventory.Reclaimed(items=1, bytes=64)
    assert pool.footprint() == inventory.Footprint(items=1, bytes=64)
    held.release()


def test_closing_frees_the_idle_and_later_the_lent(pool: BufferPool) -> None:
    lease = pool.lease(64)
    pool.lease(64).release()
    pool.close()
    pool.close()
    assert pool.footprint().bytes == 64
    lease.view[0] = 1
    lease.release()
    assert pool.footprint() == inventory.Footprint(items=0, bytes=0)
    with pytest.raises(LifecycleError, match="'buffers' is closed"):
        pool.lease(1)


def test_a_buffer_pool_is_found_by_its_place_of_creation() -> None:
    with BufferPool([1], maxbytes=1) as pool:
        assert pool.name.startswith("BufferPool@unit/test_buffers.py:")
        assert "maxbytes=1" in repr(pool)
        assert pool in inventory.containers()


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ([], {"maxbytes": 1}, ConfigError, "1 to 64 different sizes"),
        (range(1, 100), {"maxbytes": 1000}, ConfigError, "1 to 64 different sizes"),
        ([0], {"maxbytes": 1}, ConfigError, "block_sizes must be >= 1 byte each"),
        ("64KiB", {"maxbytes": 1}, TypeError, "block_sizes must be a list of sizes"),
        (64, {"maxbytes": 1}, TypeError, "block_sizes must be a list of sizes"),
        ([1.5], {"maxbytes": 1}, TypeError, "block_sizes must be a number of bytes"),
        ([64], {"maxbytes": 63}, ConfigError, "hold at least one block of 64 bytes"),
        ([64], {"maxbytes": None}, TypeError, "maxbytes must be a number of bytes"),
        ([64], {"maxbytes": 0}, ConfigError, "maxbytes must be >= 1 byte"),
        ([64], {"maxbytes": 64, "zero": 1}, TypeError, "zero must be True or False"),
        ([64], {"maxbytes": 64, "name": ""}, ConfigError, "name must not be empty"),
    ],
)
def test_a_bad_option_is_refused_at_construction(
    sizes: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        BufferPool(sizes, **options)


def test_a_hundred_thousand_leases_leave_nothing(pool: BufferPool) -> None:
    def settled() -> int:
        gc.collect()
        return len(gc.get_objects())

    pool.lease(64).release()
    before = settled()
    for number in range(100_000):
        lease = pool.lease(64)
        if number % 10:
            lease.release()
    del lease
    assert settled() - before < 500
    assert pool.statistics().created <= 2


class Noise:
    """A cycle whose destructor uses the pool, in whatever thread the collector runs."""

    def __init__(self, pool: BufferPool) -> None:
        self.pool = pool
        self.me = self

    def __del__(self) -> None:
        try:
            self.pool.lease(32).release()
        except PoolExhaustedError:
            self.pool.statistics()


def test_eight_threads_never_share_a_byte() -> None:
    pool = BufferPool([64, 256], maxbytes=64 * 12 + 256 * 2)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        mark = bytes([number])
        try:
            for turn in range(600):
                if turn % 20 == 0:
                    Noise(pool)
                    gc.collect(0)
                try:
                    lease = pool.lease(64 if turn % 3 else 200)
                except PoolExhaustedError:
                    continue
                view = lease.view
                assert not any(view), "bytes of another holder"
                view[:] = mark * len(view)
                piece = view[:5]
                if turn % 5:
                    lease.release()
                del lease
                assert bytes(piece) == mark * 5, "another holder wrote here"
                del view, piece
        except BaseException as error:  # noqa: BLE001 - reason: told by the main thread
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
    finally:
        sys.setswitchinterval(interval)
    if errors:
        raise errors[0]
    gc.collect()
    statistics = pool.statistics()
    assert (statistics.leased, statistics.quarantined) == (0, 0)
    assert statistics.bytes <= pool.maxbytes
    pool.close()
    assert pool.footprint().bytes == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_empty_and_an_exit_with_leases_is_clean() -> None:
    program = """
import os
from memguard.bounded.pool.buffer_pool import BufferPool
pool = BufferPool([64], maxbytes=128)
lease = pool.lease(64)
pool.lease(1).release()
if (child := os.fork()) == 0:
    status = 1
    try:
        assert pool.footprint().bytes == 0
        lease.view[0] = 1
        lease.release()
        assert pool.footprint().bytes == 0
        with pool.lease(64), pool.lease(64):
            status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
assert pool.footprint().bytes == 128
print(lease.view[0])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")
def test_a_signal_handler_that_raises_costs_no_bytes_and_gives_no_block_to_two() -> None:
    program = """
import gc, itertools, time
from memguard.bounded.pool.buffer_pool import BufferPool
from memguard.errors import PoolExhaustedError
from tests.interruptions import LEAST, storm

pool = BufferPool([64], maxbytes=64 * 3)
marks = itertools.count(1)

def work():
    mark = bytes([next(marks) % 255 + 1])
    try:
        with pool.lease(64) as view:
            assert not any(view), "bytes of another holder"
            view[:] = mark * 64
            time.sleep(0)
            assert bytes(view) == mark * 64, "two holders of one block"
    except PoolExhaustedError:
        time.sleep(0.001)

interruptions = storm(work, work)
gc.collect()
held = [pool.lease(64) for _ in range(3)]
assert pool.footprint().bytes == 64 * 3
try:
    pool.lease(1)
except PoolExhaustedError:
    print("three blocks", interruptions > LEAST)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "three blocks True\n", "")


class BufferMachine(RuleBasedStateMachine):
    """Any order of calls keeps every byte with one holder and the sum within the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = BufferPool([8, 32, 100], maxbytes=300)
        self.leases: list[Any] = []
        self.pieces: list[memoryview] = []
        self.mark = 0

    @rule(nbytes=st.integers(1, 100))
    def lease(self, nbytes: int) -> None:
        try:
            lease = self.pool.lease(nbytes)
        except PoolExhaustedError:
            return
        assert not any(lease.view)
        self.mark = self.mark % 255 + 1
        lease.view[:] = bytes([self.mark]) * nbytes
        self.leases.append((lease, self.mark))

    @precondition(lambda self: self.leases)
    @rule(keep=st.booleans(), drop=st.booleans(), last=st.booleans())
    def end(self, keep: bool, drop: bool, last: bool) -> None:  # noqa: FBT001 - reason: hypothesis draws them
        lease, mark = self.leases.pop(-1 if last else 0)
        assert set(lease.view) == {mark}, "somebody else wrote here"
        if keep:
            self.pieces.append(lease.view[:3])
        if not drop:
            lease.release()

    @precondition(lambda self: self.pieces)
    @rule()
    def let_go_of_a_piece(self) -> None:
        piece = self.pieces.pop()
        assert len(set(piece)) == 1
        piece.release()

    @rule(share=st.floats(0, 1))
    def reclaim(self, share: float) -> None:
        self.pool.reclaim(fraction=share)

    @invariant()
    def adds_up(self) -> None:
        statistics = self.pool.statistics()
        assert statistics.bytes <= 300
        assert statistics.leased == len(self.leases)
        assert statistics.blocks == statistics.created - statistics.disposed
        assert statistics.quarantined == len(self.pieces)

    def teardown(self) -> None:
        self.pool.close()


BufferMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestBuffersAgainstAModel = BufferMachine.TestCase
