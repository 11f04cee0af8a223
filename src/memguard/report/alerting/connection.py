"""
One attempt's connection: bounded in time and bytes, and aborted from another thread.

A socket's timeout applies to one call, so a peer that sends a byte now and then would block us
forever; here each call gets the remaining time of the attempt.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - reason: getaddrinfo would import it, on the thread of a sink
import io
import socket
import time

from memguard.lifecycle import locks

MOST_ANSWER = 64 * 1024
"""Bytes that are read of all answers in one attempt."""
_BUFFER = 8192  # one read; what io reads by default is 128 KiB from CPython 3.14 on
_LEAST_WAIT = 0.001


class Connection:
    """
    The connection of one attempt to deliver.

    Bounded by: *timeout* and 64 KiB of answers. The system's resolver has timeouts of its own,
        which no program can shorten.
    Locks: one mutex around the handle of the socket; nothing else runs under it.
    Keeps alive: a duplicate of the socket and what reads it, until `release`.
    """

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self._mutex = locks.Lock()
        self._handle: socket.socket | None = None
        self._is_cut = False
        self._read = 0
        self._readers: list[io.BufferedReader] = []

    def left(self) -> float:
        """
        Return the seconds that are left of this attempt.

        Raises:
            TimeoutError: None are, or the attempt was cut.
        """
        seconds = self._deadline - time.monotonic()
        if self._is_cut or seconds <= 0:
            raise TimeoutError("cut" if self._is_cut else "timed out")
        return max(_LEAST_WAIT, seconds)

    def connect(self, host: str, port: int) -> socket.socket:
        """
        Return a socket that is connected to *host*, the first of its addresses that answers.

        Raises:
            OSError: None does.
        """
        error: OSError | None = None
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
        for tried, (family, kind, protocol, _, address) in enumerate(found):
            sock: socket.socket | None = None
            try:
                sock = socket.socket(family, kind, protocol)
                self._hold(sock)
                # A share for each: one that leads nowhere must not use up the time of the others.
                sock.settimeout(max(_LEAST_WAIT, self.left() / (len(found) - tried)))
                sock.connect(address)
                sock.settimeout(self.left())  # for what speaks next: TLS, or the request
            except OSError as failed:
                error = failed
                if sock is not None:
                    sock.close()
            else:
                return sock
        self.left()
        raise error if error is not None else OSError("the name has no address")

    def _hold(self, sock: socket.socket) -> None:
        # A duplicate survives the change of hands to TLS, and shutting it down ends the connection.
        handle = sock.dup()
        with self._mutex:
            before, self._handle = self._handle, handle
        if before is not None:
            before.close()

    def reader(self, sock: socket.socket) -> io.BufferedReader:
        """Return a file that reads *sock* within what is left of time and bytes."""
        reader: io.BufferedReader = io.BufferedReader(_Bounded(self, sock), _BUFFER)
        self._readers.append(reader)
        return reader

    def count(self, size: int) -> None:
        """
        Count *size* bytes that were read.

        Raises:
            OSError: They are too many.
        """
        self._read += size
        if self._read > MOST_ANSWER:
            raise OSError("the answer is too long")

    def cut(self) -> None:
        """End the attempt, from whatever thread: what it waits for fails at once."""
        with self._mutex:
            self._is_cut = True
            handle = self._handle
            if handle is not None:
                with contextlib.suppress(OSError):  # not connected yet, or not any more
                    handle.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Let go of the connection, and end it for the copies that a fork may have made."""
        # A failed conversation may leave its reader behind, which keeps the socket open.
        for reader in self._readers:
            with contextlib.suppress(OSError):
                reader.close()
        self._readers.clear()
        with self._mutex:
            handle, self._handle = self._handle, None
            if handle is not None:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)
                handle.close()


class _Bounded(io.RawIOBase):
    """The bytes of a socket."""

    def __init__(self, connection: Connection, sock: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._sock = sock
        self._raw = sock.makefile("rb", 0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # reason: a buffer, whatever it is called
        self._sock.settimeout(self._connection.left())
        size: int = self._raw.readinto(buffer) or 0
        self._connection.count(size)
        return size

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
