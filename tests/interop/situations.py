"""
The recorded situations, and where we differ from them on purpose.

``tests/data/frames.json`` holds what the reference's relays were seen to say.
``differences.json`` beside this file holds what ours says instead: for each
situation a list of splices into its steps, each with the sentence why ours is
better; and which situations are not about a relay's WebSocket at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agora.keys import KeyPair

__all__ = [
    "DIFFERENCES",
    "KEYS",
    "NOT_APPLICABLE",
    "SITUATIONS",
    "Dialect",
    "Difference",
    "Situation",
    "Splice",
    "Step",
    "as_we_answer",
]

Dialect = Literal["current", "older", "rest"]
Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Situation:
    """A conversation as it was recorded; *relay* is how the relay in it was set up."""

    title: str
    dialect: Dialect
    relay: Mapping[str, Any]
    steps: Sequence[Step]

    @property
    def slug(self) -> str:
        """The title, fit for the name of a test."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True, slots=True)
class Splice:
    """Instead of *drop* steps from *at* on (counted as recorded), these."""

    at: int
    drop: int
    put: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Difference:
    """
    What the reference does in a situation, what ours does, and why that is better.

    *relay* is what is set up in another way for ours to show it.
    """

    reference: str
    ours: str
    why: str
    relay: Mapping[str, Any]
    splices: Sequence[Splice]


_RECORDED = json.loads((Path(__file__).parents[1] / "data" / "frames.json").read_text("utf-8"))
_STATED = json.loads((Path(__file__).parent / "differences.json").read_text("utf-8"))

KEYS = {name: KeyPair.from_seed(bytes.fromhex(k["seed"])) for name, k in _RECORDED["keys"].items()}
"""The key pairs of the conversations: A, B, C, D, the relay's R, and S1 to S6."""

SITUATIONS = tuple(
    Situation(s["title"], s["dialect"], s["relay"], s["steps"]) for s in _RECORDED["situations"]
)

DIFFERENCES: Mapping[str, Difference] = {
    title: Difference(
        stated["reference"],
        stated["ours"],
        stated["why"],
        stated.get("relay", {}),
        [Splice(**splice) for splice in stated["splices"]],
    )
    for title, stated in _STATED["differences"].items()
}

NOT_APPLICABLE: Mapping[str, str] = _STATED["not_applicable"]


def as_we_answer(situation: Situation) -> Situation:
    """Return *situation* with what ours says instead, where it differs."""
    difference = DIFFERENCES.get(situation.title)
    if difference is None:
        return situation
    steps = list(situation.steps)
    # From the back, so that the recorded positions stay good.
    for splice in sorted(difference.splices, key=lambda splice: splice.at, reverse=True):
        steps[splice.at : splice.at + splice.drop] = splice.put
    return replace(situation, relay={**situation.relay, **difference.relay}, steps=steps)
