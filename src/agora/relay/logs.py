"""
How a relay logs: one event, one line; ids, never payloads, keys or tokens.

The text of a record is static and names the event; what varies is in its
``fields``, and advice in its ``hint``. On a terminal they follow as
``name=value`` and behind a colon; with ``--log-json`` every line is one JSON
object.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from agora.text import printable_line

__all__ = ["set_up_logs"]


def set_up_logs(*, as_json: bool, level: str) -> None:
    """Send the records of ``agora`` to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else _Lines())
    logger = logging.getLogger("agora")
    logger.handlers[:] = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


class _Lines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = dict(_fields(record))
        hint = f": {printable_line(fields.pop('hint'))}" if "hint" in fields else ""
        shown = "".join(f" {name}={_short(value)}" for name, value in fields.items())
        line = f"{stamp} {record.levelname:<7} {record.getMessage()}{shown}{hint}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        stamp = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        members: dict[str, Any] = {
            "time": stamp,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return fields


def _short(value: object) -> str:
    """Shorten ids for a reader; the JSON form has them whole."""
    text = str(value)
    if len(text) in (64, 88) and _HEX.fullmatch(text):
        return f"@{text[-8:]}" if len(text) == 88 else text[:12]
    return printable_line(text)  # one event, one line, whatever somebody wrote


_HEX = re.compile("[0-9a-f]*")
