"""
A process that verifies signatures for a relay: ``python -m agora.verifying``.

It reads jobs from a socket that is its standard input: each is four bytes of length
and what :func:`agora.keys.to_verify` gave. It writes one byte when it is ready, and then one
for each job, in the same order: 1 for a signature that holds, 0 for one that does not.
It ends when nothing more comes.
"""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from struct import Struct

from agora.keys import holds

__all__ = ["READY", "job", "main"]

READY = b"\x02"
"""What is written before any verdict: to start takes a while, in which others verify."""

_LENGTH = Struct("!I")

_READ_AT_ONCE = 65_536

_ANSWER_AFTER = 8
"""Signatures, some half a millisecond of work: nobody waits for the end of a long row."""


def job(to_verify: bytes) -> bytes:
    """Write what is to be verified as a process reads it."""
    return _LENGTH.pack(len(to_verify)) + to_verify


def main() -> None:
    """Verify until the relay closes the socket; what ends the relay is no signal to this."""
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.SIG_IGN)
    # A relay that has gone takes no answer any more.
    with suppress(OSError), socket.socket(fileno=0) as jobs:
        jobs.sendall(READY)
        held = bytearray()
        while data := jobs.recv(_READ_AT_ONCE):
            held += data
            _verify(jobs, held)


def _verify(jobs: socket.socket, held: bytearray) -> None:
    """Verify all that is there in full, and take it out of *held*."""
    verdicts = bytearray()
    there = bytes(held)
    start = _LENGTH.size
    while start <= len(there):
        (length,) = _LENGTH.unpack_from(there, start - _LENGTH.size)
        if start + length > len(there):
            break
        verdicts.append(holds(there[start : start + length]))
        start += length + _LENGTH.size
        if len(verdicts) == _ANSWER_AFTER:
            jobs.sendall(verdicts)
            verdicts.clear()
    jobs.sendall(verdicts)
    del held[: start - _LENGTH.size]


if __name__ == "__main__":
    main()
