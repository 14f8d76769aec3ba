"""Moments as requests say them: ISO 8601, as the reference's REST clients write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

__all__ = ["read_moment"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def read_moment(text: str) -> int:
    """
    Return a moment in milliseconds since the Unix epoch; without an offset it is UTC.

    Raises:
        ValueError: When it is none.

    >>> read_moment("2026-01-01T01:00:00.0019+01:00"), read_moment("2026-01-01")
    (1767225600001, 1767225600000)
    """
    if not _DATE.match(text):
        raise ValueError("no date")
    moment = datetime.fromisoformat(text.upper())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)
