"""
The page of differences, made of the data that the tests run.

    python -m interop.page > ../docs/reference/differences.md      (in tests/)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from .situations import DIFFERENCES, NOT_APPLICABLE, SITUATIONS

__all__ = ["PAGE", "as_markdown"]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "differences.md"

_HEAD = """\
# Where we answer differently

The reference's two relays were watched in {count} situations, frame by frame
(`tests/data/frames.json`). A test acts each of them against ours. This page is
made of the data that the test runs (`tests/interop/differences.json`).

In every situation, and not repeated below:

* Every error has a `code`, and names the envelope (`id`) and recipient (`to`) it
  is about. `registered` has the relay's own key (`relay`). The reference's clients
  do not look at these members.
* The texts of errors are those of the current reference. Clients of the older one
  look at the `code`, which is the older relay's.
* `registered` has a `sessionId`, for older clients too, who do not look.

The older situations are acted with `--envelopes open`, because the older relay
looked into no envelope.
"""


def as_markdown() -> str:
    """Return the page."""
    differing = (
        (title, stated.reference, stated.ours, stated.why)
        for title, stated in _in_order(DIFFERENCES.items())
    )
    elsewhere = DIFFERENCES.keys() | NOT_APPLICABLE.keys()
    same = [situation.title for situation in SITUATIONS if situation.title not in elsewhere]
    return "\n".join(
        [
            _HEAD.format(count=len(SITUATIONS)),
            f"## Different on purpose: {len(DIFFERENCES)} situations",
            "",
            *_table(("Situation", "The reference", "Ours", "Why"), differing),
            "",
            f"## The same: {len(same)} situations",
            "",
            *(f"* {title}" for title in same),
            "",
            f"## Not acted: {len(NOT_APPLICABLE)} situations",
            "",
            *_table(("Situation", "Why not"), _in_order(NOT_APPLICABLE.items())),
            "",
        ]
    )


_Stated = TypeVar("_Stated")


def _in_order(items: Iterable[tuple[str, _Stated]]) -> list[tuple[str, _Stated]]:
    order = [situation.title for situation in SITUATIONS]
    return sorted(items, key=lambda item: order.index(item[0]))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, tuple("---" for _ in head), *rows)]


if __name__ == "__main__":
    sys.stdout.write(as_markdown())
