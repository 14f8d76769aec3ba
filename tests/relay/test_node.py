"""The node carries out whatever the core asks for."""

from __future__ import annotations

from typing import get_args

from agora.protocol.relay.actions import Action
from agora.relay import node


def test_every_action_has_somebody_to_carry_it_out() -> None:
    assert set(node._DOINGS) == set(get_args(Action))
