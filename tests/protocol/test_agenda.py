"""What is looked at when, and what is not."""

from __future__ import annotations

import math

from agora.protocol.agenda import Agenda


def test_what_is_due_is_taken_once_and_in_its_order() -> None:
    agenda = Agenda()
    agenda.add("late", 3.0)
    agenda.add("early", 1.0)
    agenda.add("early too", 1.0)

    assert agenda.take_due(0.9) == []
    assert agenda.take_due(3.0) == ["early", "early too", "late"]
    assert agenda.take_due(3.0) == []


def test_what_is_due_never_is_not_kept() -> None:
    agenda = Agenda()

    agenda.add("never", math.inf)

    assert len(agenda) == 0
