"""
The envelopes taken lately, kept in a file while no relay runs, so that a repeat stays one.

It is written when a relay stops and is gone as soon as the next one has read it: after a crash
there is none, as what it says would be of another time. A recipient's own memory of ids settles
what comes twice then.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from agora.files import new_file, sync_directory
from agora.protocol.relay.admission import Remembered

__all__ = ["read_taken", "write_taken"]

_log = logging.getLogger("agora.relay")


class _Kept(msgspec.Struct):
    lastPosition: int  # of the mailboxes then: what is said of others is not said of these
    atMs: int
    ids: tuple[str, ...]
    marks: tuple[tuple[float, int], ...]


_DECODER = msgspec.json.Decoder(_Kept)


def write_taken(path: Path, remembered: Remembered, *, last_position: int, now_ms: int) -> None:
    """Write down what was taken; waits for the disk. What it does not take is logged, and lost."""
    kept = _Kept(last_position, now_ms, *remembered)
    try:
        with new_file(path, overwrite=True) as file:
            file.write(msgspec.json.encode(kept))
    except OSError as error:
        _log.warning("taken ids not kept", extra={"fields": {"error": str(error)}})


def read_taken(path: Path, *, last_position: int, now_ms: int) -> Remembered | None:
    """
    Return what was taken before the mailboxes had their *last_position*, and remove the file.

    None where there is none, or it is of other mailboxes, or cannot be read.
    """
    try:
        data = path.read_bytes()
        path.unlink()
        sync_directory(path.parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("taken ids not read", extra={"fields": {"error": str(error)}})
        return None
    try:
        kept = _DECODER.decode(data)
        if any(count > len(kept.ids) for _, count in kept.marks):
            raise ValueError("it counts more ids than it has")
    except ValueError as error:  # msgspec's and Unicode's are, too
        _log.warning("taken ids not read", extra={"fields": {"error": str(error)}})
        return None
    if kept.lastPosition != last_position:
        return None
    then = Remembered(kept.ids, kept.marks)
    return then.after(max(0.0, (now_ms - kept.atMs) / 1000))
