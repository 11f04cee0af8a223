"""
Faults of the environment as they are: real mounts, full disks, limits of the kernel, real workers.

Each switches a part off; `status().degraded`, the health report and the metric say which and why,
the log once, and the host goes on.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts and limits of Linux")

PROGRAM = """
    import json, logging, os, resource, sys, threading, time
    import memguard
    from memguard.report.metrics.catalog import PARTS
    from memguard.report.state import guard_state

    class Counting(logging.Handler):
        def emit(self, record):
            text = record.getMessage()
            if "guard.degraded" in text: logged.append(text)

    logged = []
    logging.getLogger("memguard").addHandler(Counting())
    options = {"limit": "1TiB", "leaks": False, "interval": 0.02}

    def looked(guard, times=2):
        wanted = guard.status().monitor.ticks + times
        while guard.status().monitor.ticks < wanted:
            time.sleep(0.005)

    def off(guard):
        "Return what is off, as status, health and metrics say alike; it may change between them."
        for _ in range(200):
            found = {each.part: each.reason for each in guard.status().degraded}
            health = memguard.health(guard).degraded
            state = guard_state(guard)
            gauges = {each.prometheus: dict(each.values(state)) for each in PARTS["pressure"]}
            on = {part for part, value in gauges["memguard_degraded"].items() if value}
            counts = gauges["memguard_degradations_total"]
            if {each.part: each.reason for each in health} == found and on == set(found):
                assert all(counts[part] for part in found)
                return found
            time.sleep(0.01)
        raise AssertionError((found, health, on))

    def ask(guard):
        "Ask for admission; a host that is truly short of memory may refuse."
        try:
            guard.admit("1KiB").close()
        except memguard.AdmissionError as error:
            assert "cannot be read" not in str(error)

    def say(guard):
        os.write(1, (json.dumps({"off": off(guard), "logged": len(logged)}) + "\\n").encode())
"""


def program(text: str, *arguments: object) -> list[str]:
    source = textwrap.dedent(PROGRAM) + textwrap.dedent(text)
    return [sys.executable, "-W", "error", "-c", source, *map(str, arguments)]


def answers(arguments: list[str], **options: Any) -> list[dict[str, Any]]:
    """Return what a program says, a line of JSON each; it must end well and complain of nothing."""
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if "MEMGUARD" not in name},
        **options,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


@functools.cache
def may_mount() -> bool:
    """Return whether this process may make a mount namespace of its own, as root may."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return False
    tried = subprocess.run(
        [unshare, "-m", "sh", "-c", "mount -t tmpfs none /mnt"], capture_output=True, check=False
    )
    return tried.returncode == 0


def mounted(mounts: str, text: str, *arguments: object) -> list[dict[str, Any]]:
    """Run a program where *mounts*, commands of the shell, were made; nobody else sees them."""
    if not may_mount():
        pytest.skip("mounts need CAP_SYS_ADMIN and util-linux' unshare")
    shell = f'set -e; {mounts}; exec "$@"'
    return answers(["unshare", "-m", "sh", "-c", shell, "sh", *program(text), *map(str, arguments)])


# --- the disk ------------------------------------------------------------------------------------


def test_a_mount_that_is_read_only_switches_off_what_would_write_there(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    (said,) = mounted(
        f"mount -t tmpfs -o ro,mode=700 none {place}",
        """
        place = sys.argv[1]
        options |= {"leaks": True, "history": f"{place}/history.db", "publish": f"{place}/status"}
        options["leak_options"] = {"trace_seconds": 0.01}
        with memguard.install(report_dir=f"{place}/reports", **options) as guard:
            looked(guard)
            guard.detector.check(seconds=0.01)
            ask(guard)
            say(guard)
        """,
        place,
    )
    assert set(said["off"]) == {"history", "publish", "reports"}
    assert "kept in memory only" in said["off"]["history"]
    assert "Read-only file system" in said["off"]["publish"]
    assert "Read-only file system" in said["off"]["reports"]
    assert said["logged"] == 3


def test_a_disk_that_is_full_is_waited_for_and_used_again(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    full, free = mounted(
        f"mount -t tmpfs -o size=256k,mode=700 none {place}",
        """
        place = sys.argv[1]
        def fill():
            with open(f"{place}/filler", "wb", buffering=0) as filler:
                try:
                    while True: filler.write(bytes(4096))
                except OSError: pass

        options |= {"history": f"{place}/history.db", "publish": f"{place}/status"}
        with memguard.install(**options) as guard:
            looked(guard)
            assert off(guard) == {}
            fill()
            while set(off(guard)) != {"history", "publish"}:
                guard.history.flush()
                time.sleep(0.02)
                fill()
            say(guard)
            os.unlink(f"{place}/filler")
            while off(guard):
                guard.history.flush()
                time.sleep(0.02)
            assert guard.history.statistics().file is not None
            say(guard)
        """,
        place,
    )
    assert "No space left" in full["off"]["publish"]
    assert "the disk is full" in full["off"]["history"]
    assert free["off"] == {}


def test_a_disk_without_room_for_a_history_leaves_it_in_memory(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir(mode=0o700)
    (said,) = mounted(
        f"mount -t tmpfs -o size=4k,mode=700 none {place}; head -c 4096 /dev/zero > {place}/filler",
        """
        with memguard.install(history=f"{sys.argv[1]}/history.db", **options) as guard:
            looked(guard)
            assert guard.history.last()
            say(guard)
        """,
        place,
    )
    assert set(said["off"]) == {"history"}
    assert said["logged"] == 1


def test_fifos_in_place_of_files_are_not_waited_for(tmp_path: Path) -> None:
    for name in ("history.db", "status", "reports"):
        os.mkfifo(tmp_path / name)
    (said,) = answers(
        program(
            """
            place = sys.argv[1]
            options |= {"history": f"{place}/history.db"}
            with memguard.install(**options) as guard:
                looked(guard)
                say(guard)
            memguard.uninstall()
            for name in ("report_dir", "publish"):
                path = {"report_dir": "reports", "publish": "status"}[name]
                try:
                    memguard.install(**{name: f"{place}/{path}", "limit": "1TiB"})
                except memguard.ConfigError:
                    continue
                looked(memguard.install())
                assert off(memguard.install()), name
                memguard.uninstall()
            """,
            tmp_path,
        )
    )
    assert set(said["off"]) == {"history"}


# --- what the kernel allows ----------------------------------------------------------------------


def test_without_a_descriptor_the_guard_is_blind_until_there_is_one(tmp_path: Path) -> None:
    blind, seeing = answers(
        program(
            """
            place = sys.argv[1]
            options |= {"limit": "auto", "when_blind": "refuse", "publish": f"{place}/status"}
            memguard.health
            with memguard.install(history=f"{place}/history.db", **options) as guard:
                looked(guard)
                before = off(guard)
                taken = []
                soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
                try:
                    while True: taken.append(os.open("/dev/null", os.O_RDONLY))
                except OSError: pass
                while not {"pressure", "publish"} <= set(off(guard)):
                    looked(guard)
                try:
                    guard.admit("1KiB")
                    raise SystemExit("admitted by a guard that sees nothing")
                except memguard.AdmissionError: pass
                assert guard.status().running
                say(guard)
                for each in taken: os.close(each)
                while off(guard) != before:
                    looked(guard)
                ask(guard)
                say(guard)
            """,
            tmp_path,
        )
    )
    assert "refuses work meanwhile" in blind["off"]["pressure"]
    assert "Too many open files" in blind["off"]["publish"]
    assert "publish" not in seeing["off"]


def test_a_user_who_may_have_no_more_threads_keeps_the_host_without_a_guard() -> None:
    if os.geteuid() != 0:
        pytest.skip("the limit of processes does not bind a user who has other processes here")
    (said,) = answers(
        program(
            """
            memguard.health, memguard.install()  # all modules: nobody may not read them
            memguard.uninstall()
            os.setgid(65534), os.setuid(65534)
            os.chdir("/")
            resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
            try:
                threading.Thread(target=print).start()
                raise SystemExit("a thread was to be had")
            except RuntimeError: pass
            guard = memguard.install(limit="1TiB")
            assert not memguard.status().running
            ask(guard)
            say(guard)
            memguard.uninstall()
            """
        )
    )
    assert set(said["off"]) == {"leaks", "pressure"}
    assert all("can't start new thread" in reason for reason in said["off"].values())
    assert said["logged"] == 2


# --- /proc ---------------------------------------------------------------------------------------


def test_with_no_proc_at_all_the_guard_says_that_it_is_blind() -> None:
    (said,) = mounted(
        "mount -t tmpfs none /proc",
        """
        options |= {"limit": "auto", "when_blind": "refuse"}
        with memguard.install(**options) as guard:
            looked(guard)
            try:
                guard.admit("1KiB")
                raise SystemExit("admitted by a guard that sees nothing")
            except memguard.AdmissionError: pass
            assert guard.status().admission.blind
            say(guard)
        """,
    )
    assert set(said["off"]) == {"pressure"}
    assert "memory of this process cannot be read" in said["off"]["pressure"]
    assert said["logged"] == 1


def test_with_the_processes_alone_in_proc_the_host_is_known_by_sysconf() -> None:
    """As systemd's ``ProcSubset=pid`` mounts it."""
    (said,) = mounted(
        "mount -t proc -o subset=pid proc /proc; test ! -e /proc/meminfo",
        """
        from memguard.observe.limits import read_limit
        with memguard.install(**options | {"limit": "auto"}) as guard:
            looked(guard)
            ask(guard)
            total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            (host,) = [each for each in read_limit().bounds if each.kind == "host"]
            assert host.bytes == total, (host, total)
            assert guard.status().pressure.private
            say(guard)
        """,
    )
    assert set(said["off"]) == {"pressure"}
    assert "/proc/meminfo is hidden" in said["off"]["pressure"]


# --- two workers ---------------------------------------------------------------------------------


def test_two_workers_with_one_history_file_both_serve(tmp_path: Path) -> None:
    """Forked by a server that has bound its port, each with a guard of its own."""
    said = answers(
        program(
            """
            import signal, socket
            from wsgiref.simple_server import WSGIServer, WSGIRequestHandler
            from memguard.report.health.wsgi import HealthWsgi

            class Quiet(WSGIRequestHandler):
                def log_message(self, *_): pass

            bound = socket.create_server(("127.0.0.1", 0))
            port = bound.getsockname()[1]

            def work():
                memguard.install(history=f"{sys.argv[1]}/history.db", **options)
                server = WSGIServer(("127.0.0.1", port), Quiet, bind_and_activate=False)
                server.socket.close()
                server.socket, server.server_name, server.server_port = bound, "127.0.0.1", port
                server.setup_environ()
                server.set_app(HealthWsgi(memguard.install()))
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
                server.serve_forever(0.01)

            children = []
            for _ in range(2):
                child = os.fork()
                if child == 0:
                    try: work()
                    except SystemExit: pass
                    finally:
                        say(memguard.install())
                        os._exit(0)
                children.append(child)
            # The first to accept waits for the rest of its request: the second is the other's.
            asked = [socket.create_connection(("127.0.0.1", port), 50) for _ in children]
            for each in asked: each.sendall(b"GET /health/memory HTTP/1.0\\r\\n")
            served = set()
            for each in reversed(asked):
                each.sendall(b"Host: x\\r\\n\\r\\n")
                answer = b"".join(iter(lambda: each.recv(65536), b""))
                served.add(json.loads(answer.partition(b"\\r\\n\\r\\n")[2])["process_id"])
                each.close()
            for child in children: os.kill(child, signal.SIGTERM)
            codes = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in children]
            assert codes == [0, 0], codes
            assert served == set(children), (served, children)
            """,
            tmp_path,
        )
    )
    reasons = sorted(each["off"].get("history", "") for each in said)
    assert reasons[0] == ""
    assert "written by another process" in reasons[1]
    assert "kept in memory only" in reasons[1]
    assert sorted(each["logged"] for each in said) == [0, 1]
