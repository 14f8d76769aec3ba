"""What to send: words or JSON, from the command line or from standard input."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from math import isfinite
from typing import NoReturn

import click

from agora.canonical import Json, parse_json
from agora.errors import CanonicalJSONError, InputError
from agora.references import Directory, expand, expand_inline
from agora.text import sanitize_text

__all__ = ["addressee", "envelope_id", "message_type", "read_content", "standard_input"]


def read_content(text: tuple[str, ...], payload: str | None, contacts: Directory) -> Json:
    """Return the payload to send: of TEXT or of ``--payload``, whichever was given."""
    if bool(text) is (payload is not None):
        raise click.UsageError("say what to send: either TEXT or --payload JSON")
    if payload is None:
        words = _typed() if text == ("-",) else " ".join(text)
        return {"text": expand_inline(words, contacts)}
    try:
        return _exact_json(_typed() if payload == "-" else payload)
    except CanonicalJSONError as error:
        raise click.BadParameter(str(error), param_hint="'--payload'") from error


def standard_input() -> bytes:
    """Read to the end."""
    if sys.stdin is None:
        raise InputError("standard input is closed")
    return sys.stdin.buffer.read()


def addressee(reference: str, contacts: Directory) -> str:
    """Return *reference* as the client knows it: ``@bob``, as in a text, is the contact bob."""
    bare = reference.removeprefix("@")
    is_mention = expand(reference, contacts) is None and expand(bare, contacts) is not None
    return bare if is_mention else reference


def message_type(text: str) -> str:
    """Read ``--type``: it is shown beside the sender, so it is one line, and there."""
    if not text.strip() or sanitize_text(text) != text or len(text.splitlines()) != 1:
        raise click.BadParameter(f"{text!r} is no type: give one line, such as request")
    return text


def envelope_id(text: str) -> str:
    """Read ``--in-reply-to``."""
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise click.BadParameter(
            "a message id has 64 lower-case hex digits; agora listen --ids shows it"
        )
    return text


def _typed() -> str:
    """Read what was typed; the line break that ends the last line is not part of the text."""
    try:
        return standard_input().decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(f"standard input is no UTF-8 text: {error}") from error


# JSON that arrives as it was written


def _exact_json(text: str) -> Json:
    """
    Read JSON, and refuse what every JSON reader would take for something else.

    >>> _exact_json('{"n": 9007199254740992}')
    {'n': 9007199254740992}
    """
    try:
        json.loads(
            text,
            object_pairs_hook=_refuse_twins,
            parse_int=_refuse_inexact,
            parse_float=_refuse_endless,
            parse_constant=_refuse_constant,
        )
    except (ValueError, RecursionError) as error:
        if isinstance(error, CanonicalJSONError):
            raise
    return parse_json(text)  # which says what else is wrong


def _refuse_twins(pairs: list[tuple[str, object]]) -> None:
    for name, count in Counter(name for name, _ in pairs).items():
        if count > 1:
            raise CanonicalJSONError(f"two members are called {name!r}, and only one would arrive")


def _refuse_inexact(digits: str) -> None:
    number = float(digits)
    if not isfinite(number) or int(number) != int(digits):
        raise CanonicalJSONError(
            f"{_shown(digits)} would not arrive as it is, for JSON numbers are doubles: "
            "send it as a string"
        )


def _refuse_endless(digits: str) -> None:
    if not isfinite(float(digits)):
        _refuse_inexact(digits)


def _refuse_constant(name: str) -> NoReturn:
    raise CanonicalJSONError(f"{name} is no JSON number: give null, or a string")


def _shown(digits: str) -> str:
    return digits if len(digits) <= 40 else f"{digits[:20]}…, of {len(digits)} digits,"
