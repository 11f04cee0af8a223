"""
What a socket is: its family, its state and its port, from the tables of the Linux kernel.

Addresses are left out: a report names no peers. Source: proc_net_tcp(5), net/ipv4/tcp_ipv4.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

MAX_ROWS = 100_000
"""Rows of a table that are read: it has the sockets of all processes of the network namespace."""

_STATES = {
    "01": "ESTABLISHED",
    "02": "SYN_SENT",
    "03": "SYN_RECV",
    "04": "FIN_WAIT1",
    "05": "FIN_WAIT2",
    "06": "TIME_WAIT",
    "07": "CLOSE",
    "08": "CLOSE_WAIT",
    "09": "LAST_ACK",
    "0A": "LISTEN",
    "0B": "CLOSING",
}
_LISTEN = "0A"
_CLOSED_BY_PEER = "the peer has closed it"


class _Socket(NamedTuple):
    family: str
    state: str
    local: str
    remote: str

    @property
    def local_port(self) -> int:
        return int(self.local.rpartition(":")[2], 16)

    @property
    def remote_port(self) -> int:
        return int(self.remote.rpartition(":")[2], 16)


class Table:
    """
    Those sockets of the network namespace that are asked for, by inode.

    Bounded by: what is asked for; ``MAX_ROWS`` of each of five tables are read.
    Locks: none; one thread.
    Keeps alive: strings; for the seconds of a look.
    """

    def __init__(self, inodes: Iterable[str], folder: str = "/proc/self/net") -> None:
        self._sockets: dict[str, _Socket] = {}
        self._unix: set[str] = set()
        self._listening: set[int] = set()
        """Ports; of any process, since a worker may serve connections that its parent accepts."""
        wanted = set(inodes)
        for name in ("tcp", "tcp6", "udp", "udp6"):
            for row in _rows(Path(folder, name)):
                if len(row) > 9 and (row[9] in wanted or row[3] == _LISTEN):
                    self._enter(row, name.rstrip("6"), is_wanted=row[9] in wanted)
        for row in _rows(Path(folder, "unix")):
            if len(row) > 6 and row[6] in wanted:
                self._unix.add(row[6])

    def _enter(self, row: list[str], family: str, *, is_wanted: bool) -> None:
        state = _STATES.get(row[3], row[3]) if family == "tcp" else ""
        found = _Socket(family, state, row[1], row[2])
        if state == "LISTEN":
            self._listening.add(found.local_port)
        if is_wanted:
            self._sockets[row[9]] = found

    def describe(self, inode: str) -> str:
        """Return what the socket of that inode is, in words."""
        if inode in self._unix:
            return "unix socket"
        found = self._sockets.get(inode)
        if found is None:
            return "socket, never connected or of another family"
        if found.family == "udp":
            return "udp"
        said = f"tcp, {found.state}"
        if found.state == "CLOSE_WAIT":
            said += f" ({_CLOSED_BY_PEER})"
        if found.state == "LISTEN" or found.local_port in self._listening:
            return f"{said}, local port {found.local_port}"
        return f"{said}, remote port {found.remote_port}"

    def clients(self, inodes: Iterable[str]) -> int:
        """
        Return how many of the sockets are connections that clients have opened and still use.

        One whose other end is in this process is nobody's.
        """
        mine = [self._sockets[inode] for inode in inodes if inode in self._sockets]
        ends = {(each.local, each.remote) for each in mine}
        return sum(
            each.state == "ESTABLISHED"
            and each.local_port in self._listening
            and (each.remote, each.local) not in ends
            for each in mine
        )


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a table, without its heading; nothing where it cannot be read."""
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from map(str.split, islice(lines, 1, MAX_ROWS))
    except OSError:
        return
