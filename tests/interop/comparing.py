"""
Hold what was heard against what was recorded.

Our relay adds members to frames of the reference (docs/reference/protocol.md);
its clients ignore them, and so does the comparison, unless a step names them.
"""

from __future__ import annotations

from typing import Any

from agora.envelope import open_envelope
from agora.errors import EnvelopeError

from .situations import Dialect, Step

__all__ = ["Frame", "check_frame", "shortened"]

Frame = dict[str, Any]

ADDED_MEMBERS = frozenset({"code", "id", "to", "retryAfterMs", "relay", "reason", "sessionId"})

# Their values are those of the day in every situation.
ALWAYS_FREE = frozenset({"sessionId"})


def check_frame(recorded: Frame, heard: Frame, step: Step, dialect: Dialect) -> None:
    """
    Assert that *heard* is *recorded*, as far as the dialect's clients look.

    The members that *step* calls ``free`` must be there, at any depth, with any
    value; ``verifies`` says whether the envelope does.
    """
    if dialect == "older" and recorded["type"] == "error":
        # The older relay's clients know an error by its code; its text is for people.
        recorded, heard = _without(recorded, "message"), _without(heard, "message")
    wanted = _as_heard(recorded, heard, ALWAYS_FREE | set(step.get("free", ())))
    wanted |= {n: heard[n] for n in heard if n in ADDED_MEMBERS and n not in recorded}
    assert heard == wanted, f"heard    {shortened(heard)}\nexpected {shortened(wanted)}"
    if "verifies" in step:
        assert _verifies(heard["envelope"]) == step["verifies"]


def shortened(value: object) -> str:
    """Return the text of *value*, its middle left out where it is long."""
    text = str(value)
    return text if len(text) <= 1500 else f"{text[:700]} … {text[-700:]}"


def _without(frame: Frame, member: str) -> Frame:
    return {name: value for name, value in frame.items() if name != member}


def _as_heard(recorded: Any, heard: Any, free: frozenset[str]) -> Any:
    """Return *recorded* with the values that *heard* has for the free members."""
    match recorded, heard:
        case dict(), dict():
            return {
                name: heard[name]
                if name in free and name in heard
                else _as_heard(value, heard.get(name), free)
                for name, value in recorded.items()
            }
        case list(), list() if len(recorded) == len(heard):
            return [_as_heard(*pair, free) for pair in zip(recorded, heard, strict=True)]
        case _:
            return recorded


def _verifies(envelope: Frame) -> bool:
    try:
        open_envelope(envelope)
    except EnvelopeError:
        return False
    return True
