"""Answers whose JSON is there already: frames are passed on as the node wrote them."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Response

__all__ = ["Json", "json_answer"]

_Answer = TypeVar("_Answer")


class Json(Response[_Answer]):
    """An answer; ``_Answer`` is what it looks like, for the document."""

    def render(self, content: Any, media_type: str, enc_hook: Any = None) -> bytes:
        """Return it as bytes."""
        return content if isinstance(content, bytes) else msgspec.json.encode(content)


def json_answer(body: bytes, **options: Any) -> Json[Any]:
    """Return an answer whose JSON is *body*; options as for litestar's ``Response``."""
    return Json(body, media_type="application/json", **options)
