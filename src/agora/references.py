"""
Short peer references: ``alice@125531b8`` for people, 88 hex digits for the wire.

The forms and the order in which they are tried are those of the reference
implementation. Names are the local ones of a directory, never what the other
side calls itself: a short reference is a convenience, and only the full id
says who somebody is.

==================  =====================================================
full id             a peer, whatever the directory calls it
``name@suffix8``    a peer with a name; what `shorten` writes
``@suffix8``        a peer without one; what `shorten` writes
``name``            a peer, if no other has that name
``name...suffix8``  an older form of ``name@suffix8``, read only
``...suffix8``      an older form of ``@suffix8``, read only
==================  =====================================================
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from agora.ecmascript import WHITE_SPACE
from agora.errors import PeerReferenceError

__all__ = [
    "Contact",
    "Directory",
    "compact_inline",
    "compact_known_inline",
    "expand",
    "expand_inline",
    "format_display_name",
    "merge_directories",
    "resolve",
    "resolve_display_name",
    "short_key",
    "shorten",
]

SUFFIX_DIGITS = 8
_ID_DIGITS = 88

_MENTION = re.compile(rf"@([^{WHITE_SPACE}]+)")
_LONG_HEX = re.compile(r"[0-9a-fA-F]{16,}")
_LONG_MENTION = re.compile(r"@([0-9a-fA-F]{16,})")

# The suffix has a fixed length, so all before its separator is the name, "@" and all.
_SHORT_FORM = re.compile(r"([^\n\r\u2028\u2029]*)(?:@|\.\.\.)([0-9a-fA-F]{8})")


@dataclass(frozen=True, slots=True)
class Contact:
    """A peer somebody knows, and what they call it."""

    public_key: str
    name: str | None = None


Directory: TypeAlias = Collection[Contact]
"""The known peers. Contacts with an empty key are ignored."""


def short_key(public_key: str) -> str:
    """Return ``@`` and the last 8 digits, whether or not the peer has a name."""
    return f"@{public_key[-SUFFIX_DIGITS:]}"


def shorten(public_key: str, directory: Directory = ()) -> str:
    """
    Return how people write this peer.

    >>> bob = Contact("302a300506032b6570032100" + "00" * 30 + "b0b5", "bob")
    >>> shorten(bob.public_key, [bob]), shorten(bob.public_key)
    ('bob@0000b0b5', '@0000b0b5')
    """
    return (resolve_display_name(public_key, directory) or "") + short_key(public_key)


def format_display_name(name: str | None, public_key: str) -> str:
    """Return *name* with the suffix; the suffix alone if *name* is blank or a short form itself."""
    if not name or not _trimmed(name) or name.startswith(("@", "...")):
        return short_key(public_key)
    return name + short_key(public_key)


def resolve_display_name(public_key: str, directory: Directory = ()) -> str | None:
    """Return the local name of exactly this peer, or None."""
    contact = _contact_with_key(public_key, directory)
    return contact.name or None if contact else None


def expand(reference: str, directory: Directory) -> str | None:
    """Return the full id *reference* stands for; None where no peer fits, or more than one."""
    fitting = _fitting(reference, directory)
    return fitting[0].public_key if len(fitting) == 1 else None


def resolve(reference: str, directory: Directory) -> str:
    """
    Return the full id *reference* stands for, or say why there is none.

    Raises:
        PeerReferenceError: No peer fits, or more than one; the message says which.
    """
    fitting = _fitting(reference, directory)
    if not fitting:
        raise PeerReferenceError(_why_unknown(reference, directory))
    if len(fitting) > 1:
        ids = ", ".join(contact.public_key for contact in fitting)
        raise PeerReferenceError(f"{reference!r} fits {len(fitting)} peers, use a full id: {ids}")
    return fitting[0].public_key


def _why_unknown(reference: str, directory: Directory) -> str:
    token = _trimmed(reference)
    if _LONG_HEX.fullmatch(token) and not (len(token) == _ID_DIGITS and token.islower()):
        has = "upper-case ones" if len(token) == _ID_DIGITS else f"{len(token)}"
        return f"a peer id has {_ID_DIGITS} lower-case hex digits; this has {has}"
    meant = f"@{token}"
    hint = f"; did you mean {meant}?" if expand(meant, directory) else ""
    return f"no known peer is {reference!r}{hint}"


def expand_inline(text: str, directory: Directory) -> str:
    """
    Replace each ``@word`` in *text* that stands for a known peer by ``@`` and its full id.

    The reference's rule, oddities included: the word runs up to the next white
    space, so punctuation after a name hides it, and it is looked up without
    its ``@``, so ``@alice`` and ``@@125531b8`` are found and ``@125531b8`` is not.
    """
    return _MENTION.sub(lambda word: f"@{expand(word[1], directory) or word[1]}", text)


def compact_inline(text: str, directory: Directory) -> str:
    """
    Replace each ``@`` with 16 or more hex digits in *text* by ``@`` and the short form.

    A stranger becomes ``@@suffix8``, which `expand_inline` understands.
    """
    return _LONG_MENTION.sub(lambda word: f"@{shorten(word[1], directory)}", text)


def compact_known_inline(text: str, directory: Directory) -> str:
    """Do as `compact_inline`, but leave whatever is not a full id of *directory*."""

    def compact(word: re.Match[str]) -> str:
        known = _contact_with_key(word[1], directory)
        return f"@{shorten(word[1], directory)}" if known else word[0]

    return _LONG_MENTION.sub(compact, text)


def merge_directories(base: Iterable[Contact], *extra: Iterable[Contact]) -> tuple[Contact, ...]:
    """Return one contact per id: that of *base* if it has one, else that of the last *extra*."""
    merged: dict[str, Contact] = {}
    for directory in (*extra, base):
        merged.update((contact.public_key, contact) for contact in directory)
    merged.pop("", None)
    return tuple(merged.values())


def _fitting(reference: str, directory: Directory) -> list[Contact]:
    """Return the contacts *reference* may mean; the first shape it fits decides, found or not."""
    token = _trimmed(reference)
    if not token:
        return []
    if exact := _contact_with_key(token, directory):
        return [exact]
    contacts = [contact for contact in directory if contact.public_key]
    if not (short := _SHORT_FORM.fullmatch(token)):
        return [contact for contact in contacts if contact.name == token]
    name, suffix = short[1], short[2].lower()
    return [
        contact
        for contact in contacts
        if contact.public_key.lower().endswith(suffix) and (not name or contact.name == name)
    ]


def _contact_with_key(public_key: str, directory: Directory) -> Contact | None:
    return next((c for c in directory if c.public_key and c.public_key == public_key), None)


def _trimmed(text: str) -> str:
    return text.strip(WHITE_SPACE)
