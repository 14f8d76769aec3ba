"""
What a message says, made safe to show.

Text from a peer can move the cursor, reverse the line it stands in, or hide
letters between letters. `sanitize_text` and `extract_text` do what
the reference does, so both sides show the same text; `printable` and
`printable_line` go further, for terminals and logs. None of them changes
what was signed: they are for the last step before a person's eyes.
"""

from __future__ import annotations

import re

from agora.canonical import Json, json_text

__all__ = ["claimed_name", "extract_text", "printable", "printable_line", "sanitize_text"]

# The control characters C0, DEL and C1, except tab, line feed and carriage return.
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

# What shows nothing: Unicode's Default_Ignorable_Code_Point (bidi controls, zero-width characters,
# the "tag" letters that carry text past people), and the annotation marks U+FFF9 to U+FFFB.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_LINE_BREAK = re.compile("\r\n|[\r\n\u2028\u2029]")


def sanitize_text(text: str) -> str:
    """
    Return *text* without control characters, with U+FFFD for each unpaired surrogate.

    Tab, line feed and carriage return stay, and so do bidi controls and
    zero-width characters. The result can always be encoded as UTF-8.

    >>> sanitize_text("red\\x1b[31m alert\\x07")
    'red[31m alert'
    """
    without_controls = _CONTROLS.sub("", text)
    # Through UTF-16 and back: two surrogates that form a pair become the one character they mean.
    return without_controls.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def extract_text(payload: Json) -> str:
    """
    Return what *payload* says, sanitised.

    That is the member ``text`` of an object if it is a string, a string
    itself, and otherwise the JSON text. Null, or no payload, gives ``""`` with
    the quotes, as in the reference.

    >>> extract_text({"text": "hello"}), extract_text({"n": [1.0]}), extract_text(None)
    ('hello', '{"n":[1]}', '""')
    """
    said = payload.get("text") if isinstance(payload, dict) else payload
    if not isinstance(said, str):
        said = json_text("" if payload is None else payload)
    return sanitize_text(said)


def claimed_name(name: str) -> str | None:
    """
    Return what a peer calls itself as a relay passes it on; None where nothing is left.

    It has no control characters, no blanks around it, and does not begin as what others
    are written with: ``@`` before a reference, ``...`` before the end of a key.

    >>> claimed_name(" Bob\\x07 "), claimed_name("...1a2b3c4d")
    ('Bob', None)
    """
    cleaned = sanitize_text(name).strip()
    return None if not cleaned or cleaned.startswith(("...", "@")) else cleaned


def printable(text: str) -> str:
    """
    Return *text* sanitised and without anything invisible, to show on a terminal.

    Every kind of line break becomes a line feed: a lone carriage return would
    let the text overwrite what stands before it. What joins characters is
    invisible too, so a family of emoji comes apart into its members.
    """
    return _LINE_BREAK.sub("\n", _INVISIBLE.sub("", sanitize_text(text)))


def printable_line(text: str) -> str:
    """Return *text* as `printable` does, on one line: for names, and one message a line."""
    return _LINE_BREAK.sub(" ", printable(text)).replace("\t", " ")
