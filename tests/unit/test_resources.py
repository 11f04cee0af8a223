"""Who piles up: what two looks at threads, tasks and descriptors say of them."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from memguard.leaks.evidence import resources, sockets
from memguard.leaks.evidence.resources import ResourceChange
from memguard.leaks.report import ResourceKind
from memguard.lifecycle import locks

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def wait_for(event: threading.Event) -> None:
    event.wait()


class Poller(threading.Thread):
    """A thread with a ``run`` of its own."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self.event = event

    def run(self) -> None:
        wait_for(self.event)


@contextlib.contextmanager
def running(threads: list[threading.Thread], event: threading.Event) -> Iterator[None]:
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        event.set()
        for thread in threads:
            thread.join()


def change(
    kind: ResourceKind, before: resources.ResourceLook, types: dict[str, int] | None = None
) -> ResourceChange:
    after = resources.take_look(1.0, types)
    return next(each for each in resources.compare(before, after) if each.kind == kind)


def test_threads_are_grouped_by_what_they_run_with_the_line_they_wait_at() -> None:
    event = threading.Event()
    before = resources.take_look(0.0)
    plain = [
        threading.Thread(target=functools.partial(wait_for, event), name=f"poll-{n}")
        for n in range(5)
    ]
    with running([*plain, *(Poller(event) for _ in range(3))], event):
        found = change("threads", before)
    assert found.added == 8
    names = {group.name: group for group in found.groups}
    group = names[f"{__name__}.wait_for"]
    assert group.added == 5
    assert group.begins_at is not None
    assert group.begins_at.function == "wait_for"
    assert names[f"{__name__}.Poller.run"].added == 3
    if not locks.FREE_THREADED:
        waits = {each.waits_at.function for each in names.values() if each.waits_at}
        assert "wait_for" in waits, "the innermost line that is not the standard library's"


def test_threads_of_a_pool_that_was_there_before_have_a_bound() -> None:
    event = threading.Event()
    with ThreadPoolExecutor(8) as old, ThreadPoolExecutor(8) as new:
        try:
            old.submit(wait_for, event)
            before = resources.take_look(0.0)
            for _ in range(5):
                old.submit(wait_for, event)
            assert change("threads", before).filling == 5
            for _ in range(3):
                new.submit(wait_for, event)
            found = change("threads", before)
            assert (found.added, found.filling) == (8, 5), "a new pool each time is a leak"
        finally:
            event.set()


class Unfriendly:
    """A target that answers every question with an error."""

    def __init__(self, event: threading.Event) -> None:
        object.__setattr__(self, "event", event)

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"asked for {name}")

    def __call__(self) -> None:
        object.__getattribute__(self, "event").wait()


def test_no_code_of_a_target_runs() -> None:
    event = threading.Event()
    before = resources.take_look(0.0)
    with running([threading.Thread(target=Unfriendly(event), name="x")], event):
        (group,) = change("threads", before).groups
    assert group.name == f"{__name__}.Unfriendly"


async def helper(event: asyncio.Event) -> None:
    await event.wait()


async def job(event: asyncio.Event) -> None:
    await helper(event)


def test_tasks_are_grouped_by_the_line_they_wait_at() -> None:
    gc.collect()  # tasks that earlier tests left in cycles

    async def main() -> ResourceChange:
        before = resources.take_look(0.0)
        event = asyncio.Event()
        waiting = [asyncio.create_task(job(event)) for _ in range(3 * resources.MAX_TASKS)]
        await asyncio.sleep(0)
        names = {f"{type(waiting[0]).__module__}.Task": len(waiting)}
        found = change("tasks", before, names)
        event.set()
        await asyncio.gather(*waiting)
        return found

    found = asyncio.run(main())
    assert found.added == 3 * resources.MAX_TASKS
    group = found.groups[0]
    assert group.name.startswith("job at line ")
    assert group.added == pytest.approx(3 * resources.MAX_TASKS, rel=0.01), "sampled, then scaled"
    assert group.begins_at is not None
    assert group.begins_at.line == job.__code__.co_firstlineno
    assert group.waits_at is not None
    assert group.waits_at.function == "helper"
    assert group.waits_at.line == helper.__code__.co_firstlineno + 1


def test_tasks_of_a_loop_that_is_not_running_are_found_where_the_heap_has_them() -> None:
    loop = asyncio.new_event_loop()

    async def spawn(event: asyncio.Event) -> list[asyncio.Task[None]]:
        waiting = [asyncio.create_task(job(event)) for _ in range(40)]
        await asyncio.sleep(0)
        return waiting

    before = resources.take_look(0.0)
    event = asyncio.Event()
    waiting = loop.run_until_complete(spawn(event))
    found = change("tasks", before, {"_asyncio.Task": 40})
    assert found.added == 40
    event.set()
    loop.run_until_complete(asyncio.gather(*waiting))
    loop.close()


@linux
def test_descriptors_are_grouped_by_what_they_are(tmp_path: Path) -> None:
    before = resources.take_look(0.0)
    with contextlib.ExitStack() as stack:
        for number in range(12):
            stack.enter_context((tmp_path / f"part-{number}.log").open("w"))
        for _ in range(3):
            for end in os.pipe():
                stack.callback(os.close, end)
        for pair in socket.socketpair():
            stack.enter_context(pair)
        files, plugged = change("files", before), change("sockets", before)
    names = {group.name: group.added for group in files.groups}
    folder = resources._VARYING.sub("N", str(tmp_path))
    assert names == {f"file {folder}/part-N.log": 12, "pipe": 6}
    assert [(group.name, group.added) for group in plugged.groups] == [("unix socket", 2)]


@linux
def test_files_of_many_names_are_one_group_a_folder(tmp_path: Path) -> None:
    before = resources.take_look(0.0)
    with contextlib.ExitStack() as stack:
        for number in range(20):
            name = "x" * (number + 1) + ".csv"
            stack.enter_context((tmp_path / name).open("w"))
        (group,) = change("files", before).groups
    assert group.name.endswith("/*.csv")
    assert group.added == 20


@linux
def test_clients_are_told_from_connections_that_are_not_closed() -> None:
    """Connections in use are load; those that the peer has closed are a leak."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = server.getsockname()[1]
        before = resources.take_look(0.0)
        for number in range(6):
            client = socket.create_connection(("127.0.0.1", port))
            stack.enter_context(server.accept()[0])
            if number < 4:
                client.close()
            else:
                stack.enter_context(client)
        found = change("sockets", before)
    names = {group.name: group.added for group in found.groups}
    assert names[f"tcp, CLOSE_WAIT (the peer has closed it), local port {port}"] == 4
    assert names[f"tcp, ESTABLISHED, local port {port}"] == 2
    assert found.clients == 0, "both ends of the last two are in this process"


def table(tmp_path: Path, tcp: str) -> sockets.Table:
    head = "sl local_address rem_address st tx_queue tr tm->when retrnsmt uid timeout inode\n"
    (tmp_path / "tcp").write_text(head + tcp)
    (tmp_path / "unix").write_text("Num RefCount Protocol Flags Type St Inode Path\n garbage\n")
    return sockets.Table(map(str, range(10)), str(tmp_path))


ROW = "0: {local} {remote} {state} 0:0 0:0 0 1000 0 {inode} 1\n"


def test_a_client_elsewhere_is_counted_while_it_is_connected(tmp_path: Path) -> None:
    rows = [
        ROW.format(local="00000000:1F90", remote="00000000:0000", state="0A", inode=1),
        ROW.format(local="0100007F:1F90", remote="0A00000A:C001", state="01", inode=2),
        ROW.format(local="0100007F:1F90", remote="0A00000A:C002", state="08", inode=3),
        ROW.format(local="0100007F:C003", remote="0A00000A:1538", state="01", inode=4),
        "too short\n",
    ]
    found = table(tmp_path, "".join(rows))
    assert found.clients(["1", "2", "3", "4", "5"]) == 1
    assert found.describe("2") == "tcp, ESTABLISHED, local port 8080"
    assert found.describe("4") == "tcp, ESTABLISHED, remote port 5432"
    assert found.describe("5") == "socket, never connected or of another family"


def test_only_sockets_of_this_process_are_kept(tmp_path: Path) -> None:
    """A host that routes for others has a hundred thousand of theirs."""
    row = ROW.format(local="0100007F:1F90", remote="0A00000A:C001", state="01", inode="{}")
    found = table(tmp_path, "".join(map(row.format, range(1, 2000))))
    assert len(found._sockets) == 9


def test_where_the_system_tells_nothing_nothing_is_said(tmp_path: Path) -> None:
    found = sockets.Table(["1"], str(tmp_path))
    assert found.clients(["1"]) == 0
    assert resources._chosen(str(tmp_path / "none")) == ([], 1.0)
    assert list(resources._targets(["1"], str(tmp_path / "none"))) == []


def test_of_too_many_descriptors_a_sample_stands_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2000):
        # Every second one: pairs are opened together, and a fixed stride would see but one of them.
        target = "socket:[1]" if number % 2 else "pipe:[2]"
        (tmp_path / str(number)).symlink_to(target)
    everything = resources._descriptors(str(tmp_path))
    assert [(each.count, each.sampled) for each in everything.values()] == [(1000, False)] * 2
    monkeypatch.setattr(resources, "MAX_DESCRIPTORS", 500)
    found = resources._descriptors(str(tmp_path))
    assert all(each.sampled for each in found.values())
    assert sum(each.count for each in found.values()) == pytest.approx(2000, abs=2)
    assert found["sockets"].count == pytest.approx(1000, rel=0.2)
    assert sum(group.count for group in found["files"].groups.values()) == pytest.approx(
        found["files"].count, abs=1
    )


def test_groups_are_bounded() -> None:
    found = resources.Resource()
    for number in range(2 * resources.MAX_GROUPS):
        found.enter(f"group {number}", None, None, 1)
    assert len(found.groups) <= resources.MAX_GROUPS + 1
    assert sum(group.count for group in found.groups.values()) == 2 * resources.MAX_GROUPS


def test_a_temporary_name_is_no_group_of_its_own() -> None:
    with tempfile.TemporaryDirectory() as home:
        kind = resources._kind_of(f"{home}/0123456789abcdef/77.db (deleted)")
    assert "0123456789" not in kind
    assert kind.endswith("/N.db (deleted)")
