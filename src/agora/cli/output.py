"""
What a command says, for people or as one JSON object per line.

Whatever a peer or a relay wrote passes :func:`agora.text.printable` on its way to a
person. JSON is written in ASCII, so that nothing in it can act on a terminal either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

import click

from agora.canonical import Json, json_text
from agora.client import (
    Bounced,
    ClientEvent,
    ContactRequest,
    Message,
    PresenceChanged,
    Receipt,
    StateChanged,
    TransportChanged,
    Withheld,
)
from agora.envelope import Envelope
from agora.errors import AgoraError, EnvelopeError
from agora.keys import PeerId, is_peer_id
from agora.references import Directory, compact_known_inline, resolve_display_name, short_key
from agora.text import printable, printable_line

__all__ = [
    "error_line",
    "error_members",
    "event_line",
    "event_members",
    "json_line",
    "message_lines",
    "message_members",
    "message_text",
    "outgoing_text",
    "peer_members",
    "receipt_line",
    "receipt_members",
    "some",
    "styled_peer",
]

Members = dict[str, Json]

_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


def json_line(members: Mapping[str, Json]) -> str:
    """
    Return *members* as JSON on one line, in ASCII.

    >>> json_line({"text": "schön"})
    '{"text":"sch\\\\u00f6n"}'
    """
    return _NOT_ASCII.sub(_escape, json_text(dict(members)))


def _escape(character: re.Match[str]) -> str:
    units = character[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


# Peers


def styled_peer(peer: PeerId, claimed: str | None, contacts: Directory) -> str:
    """
    Return how a peer is shown: ``name@suffix``, or ``~name@suffix`` for a name it gave itself.

    A stranger may call itself what it likes; only a contact has a name without the tilde.
    """
    if name := resolve_display_name(peer, contacts):
        return click.style(printable_line(name), fg="cyan", bold=True) + short_key(peer)
    claimed = printable_line(claimed or "").strip()
    return (click.style(f"~{claimed}", fg="cyan") if claimed else "") + short_key(peer)


def peer_members(
    peer: PeerId, claimed: str | None, contacts: Directory, *, key: str = "publicKey"
) -> Members:
    """Return what is known of a peer: its id under *key*, our name for it, and its own claim."""
    members: Members = {key: peer}
    if name := resolve_display_name(peer, contacts):
        members["name"] = name
    if claimed:
        members["claimedName"] = claimed
    return members


# Messages


def message_lines(message: Message, contacts: Directory, *, show_id: bool = False) -> str:
    """Return a message for people: time, sender, its type unless it is the usual one, the text."""
    sender = styled_peer(message.sender, message.name, contacts)
    kind = "" if message.type == "publish" else f" {_dim(printable_line(message.type))}"
    to_all = " " + _dim("to all") if "*" in message.to else ""
    shown_id = f" {_dim(message.id)}" if show_id else ""
    # Further lines are set in, so that no text can look like a line of ours.
    text = message_text(message, contacts).replace("\n", "\n    ")
    return f"{_now()} {sender}{kind}{to_all}{shown_id}: {text}"


def message_text(message: Message, contacts: Directory) -> str:
    """Return what a message says, for people: its text, and as JSON what else is in its payload."""
    text = compact_known_inline(printable(message.text), contacts)
    payload = message.payload
    if not isinstance(payload, dict) or not isinstance(payload.get("text"), str):
        return text  # which is all of the payload
    rest = {name: value for name, value in payload.items() if name != "text"}
    return f"{text} {_dim(printable_line(json_text(rest)))}" if rest else text


def message_members(message: Message, contacts: Directory) -> Members:
    """Return a message for programs: the members of its envelope, under the envelope's names."""
    members: Members = {"event": "message", "id": message.id, "type": message.type}
    members |= peer_members(message.sender, message.name, contacts, key="from")
    members |= {"to": list(message.to), "timestamp": message.timestamp_ms}
    if message.in_reply_to is not None:
        members["inReplyTo"] = message.in_reply_to
    return members | {"payload": message.payload}


# Events


def event_line(event: ClientEvent, contacts: Directory) -> str:
    """Return an event for people, on one line."""
    match event:
        case PresenceChanged(peer, is_online, name):
            sign = click.style("+", fg="green") if is_online else click.style("-", fg="yellow")
            state = "online" if is_online else "offline"
            return f"{_now()} {sign} {styled_peer(peer, name, contacts)} {state}"
        case StateChanged(state, error):
            why = f": {printable_line(str(error))}" if error else ""
            return f"{_now()} = {state}{why}"
        case Bounced(_, code, recipient):
            to = _styled_recipient(recipient, contacts)
            return (
                f"{_now()} {_alarm()} the relay gave up a message to {to}: {printable_line(code)}"
            )
        case Withheld(envelope, reason):
            sender = styled_peer(envelope.sender, None, contacts)
            return f"{_now()} {_alarm()} withheld a message from {sender}: {reason}"
        case ContactRequest(envelope, name):
            return f"{_now()} ? {styled_peer(envelope.sender, name, contacts)} asks to write to you"
        case TransportChanged(transport, error):
            why = f": {printable_line(str(error))}" if error else ""
            return f"{_now()} = by {transport}{why}"
        case _:
            return f"{_now()} {error_line(event.error)}"


def event_members(event: ClientEvent, contacts: Directory) -> Members:
    """Return an event for programs."""
    match event:
        case PresenceChanged(peer, is_online, name):
            kind = "peer_online" if is_online else "peer_offline"
            return {"event": kind, **peer_members(peer, name, contacts)}
        case StateChanged(state, error):
            return {"event": str(state), **(error_members(error) if error else {})}
        case Bounced(envelope_id, code, recipient):
            to = peer_members(PeerId(recipient), None, contacts, key="to")
            return {"event": "bounced", "code": code, "id": envelope_id, **to}
        case Withheld(envelope, reason):
            return {"event": "withheld", "reason": reason, **_unread(envelope, None, contacts)}
        case ContactRequest(envelope, name):
            return {"event": "contact_request", **_unread(envelope, name, contacts)}
        case TransportChanged(transport, error):
            why = error_members(error) if error else {}
            return {"event": "transport", "transport": str(transport), **why}
        case _:
            return {"event": "error", **error_members(event.error)}


def _unread(envelope: Envelope, name: str | None, contacts: Directory) -> Members:
    """Return what is told of a message that nobody is to read: all but what it says."""
    sender = peer_members(envelope.sender, name, contacts, key="from")
    return {"id": envelope.id, "type": envelope.type, **sender}


def receipt_line(receipt: Receipt, contacts: Directory) -> str:
    """Return what became of a message that had waited, for people, on one line."""
    to = _styled_recipient(receipt.to, contacts)
    return f"{_now()} > {to} from the outbox: {receipt.status}: {outgoing_text(receipt)}"


def outgoing_text(receipt: Receipt) -> str:
    """Return how a message of ours begins, for people, on one line."""
    payload = receipt.outgoing.envelope.payload
    text = payload.get("text") if isinstance(payload, dict) else None
    line = printable_line(text if isinstance(text, str) else json_text(payload))
    return line if len(line) <= _MAX_SHOWN else f"{line[:_MAX_SHOWN]}…"


_MAX_SHOWN = 40
"""Characters by which one knows again what one has written."""


def receipt_members(receipt: Receipt, contacts: Directory) -> Members:
    """Return what became of a message that had waited, for programs."""
    to = peer_members(PeerId(receipt.to), None, contacts, key="to")
    return {"event": "receipt", "status": str(receipt.status), "id": receipt.id, **to}


def _styled_recipient(recipient: str, contacts: Directory) -> str:
    """Return how a recipient is shown, also one that only a relay says to be one."""
    if is_peer_id(recipient):
        return styled_peer(recipient, None, contacts)
    return printable_line(recipient)


def error_line(error: Exception) -> str:
    """Return an error for people, on one line."""
    return f"{_alarm()} {printable_line(str(error))}"


def _alarm() -> str:
    return click.style("!", fg="red")


def error_members(error: Exception) -> Members:
    """Return an error for programs: its stable ``code``, and the text for people."""
    members: Members = {"code": error.code if isinstance(error, AgoraError) else "error"}
    if isinstance(error, EnvelopeError):
        members["reason"] = error.reason
    return members | {"message": str(error)}


def some(number: int, thing: str, plural: str = "s") -> str:
    """
    Return how many there are.

    >>> some(1, "message"), some(0, "mailbox", "es")
    ('1 message', '0 mailboxes')
    """
    return f"{number} {thing}" if number == 1 else f"{number} {thing}{plural}"


def _now() -> str:
    return _dim(datetime.now().astimezone().strftime("%H:%M:%S"))


def _dim(text: str) -> str:
    return click.style(text, dim=True)
