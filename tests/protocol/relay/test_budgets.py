"""How much may come in: by key, by address, and how many may join."""

from __future__ import annotations

from typing import Any

import pytest

from agora.frames import ErrorAnswer
from agora.limits import Limits
from agora.protocol.relay.budgets import Budgets
from agora.protocol.relay.refusal import Refusal
from agora.testing.conversation import Conversation

WINDOW: dict[str, Any] = {"rate_limit_window_ms": 10_000}


def new_budgets(**limits: Any) -> Budgets:
    return Budgets(Limits(**WINDOW | limits))


def send(budgets: Budgets, peer: str, address: str = "here", cost: int = 1) -> None:
    budgets.check_messages(peer, address, cost, 0.0)
    budgets.spend_messages(peer, address, cost, 0.0)


def refusal_of(budgets: Budgets, peer: str, address: str, cost: int = 1) -> Refusal:
    with pytest.raises(Refusal) as caught:
        budgets.check_messages(peer, address, cost, 0.0)
    return caught.value


# By itself


def test_a_key_has_its_rate_wherever_it_comes_from() -> None:
    budgets = new_budgets(rate_limit_max_messages=2)
    send(budgets, "alice", "here")
    send(budgets, "alice", "there")

    refusal = refusal_of(budgets, "alice", "elsewhere")

    assert (refusal.code, refusal.retry_after) == ("rate_limited", 5.0)
    send(budgets, "bob", "here")


def test_an_address_has_its_rate_whoever_comes_from_it() -> None:
    budgets = new_budgets(rate_limit_max_address_messages=2)
    send(budgets, "alice")
    send(budgets, "bob")

    refusal = refusal_of(budgets, "carol", "here")

    assert (refusal.code, refusal.retry_after) == ("rate_limited", 5.0)
    assert "one address" in refusal.message
    send(budgets, "carol", "there")


def test_looking_spends_nothing() -> None:
    budgets = new_budgets(rate_limit_max_messages=1)

    for _ in range(3):
        budgets.check_messages("alice", "here", 1, 0.0)


def test_several_messages_at_once_need_room_for_all_of_them() -> None:
    budgets = new_budgets(rate_limit_max_messages=5)
    send(budgets, "alice", cost=3)

    assert refusal_of(budgets, "alice", "here", cost=3).retry_after == 2.0
    send(budgets, "alice", cost=2)


def test_an_address_joins_only_so_often() -> None:
    budgets = new_budgets(rate_limit_max_joins=1)
    budgets.spend_join("here", 0.0)
    budgets.spend_join("there", 0.0)

    with pytest.raises(Refusal) as caught:
        budgets.spend_join("here", 5.0)

    assert (caught.value.code, caught.value.retry_after) == ("rate_limited", 5.0)
    budgets.spend_join("here", 10.0)


def test_what_is_forgotten_changes_no_answer() -> None:
    budgets = new_budgets(rate_limit_max_messages=1)
    send(budgets, "alice")

    budgets.forget_full(5.0)

    with pytest.raises(Refusal) as caught:
        budgets.check_messages("alice", "here", 1, 5.0)
    assert caught.value.retry_after == 5.0


def test_where_rates_are_off_none_of_them_counts() -> None:
    budgets = new_budgets(
        rate_limit_enabled=False,
        rate_limit_max_messages=1,
        rate_limit_max_address_messages=1,
        rate_limit_max_joins=1,
    )

    for _ in range(3):
        send(budgets, "alice")
        budgets.spend_join("here", 0.0)


# In a conversation


def test_one_registration_too_many_is_told_how_long_to_wait() -> None:
    talk = Conversation(rate_limit_max_joins=1, **WINDOW)
    talk.connect("alice", address="here").registers()

    bob = talk.connect("bob", address="here")
    bob.registers()
    [answer] = bob.answers()

    assert isinstance(answer, ErrorAnswer)
    assert (answer.code, answer.retry_after) == ("rate_limited", 10.0)
    assert bob.close_code is not None

    talk.pass_time(10.0)
    carol = talk.connect("carol", address="here")
    carol.registers()
    assert carol.hears() == ["registered with alice"]


def test_a_registration_with_proof_counts_once() -> None:
    talk = Conversation(rate_limit_max_joins=2, **WINDOW)

    for name in ("alice", "bob"):
        talk.connect(name, address="here").proves()

    assert len(talk.node) == 2


def test_peers_of_one_address_share_its_rate() -> None:
    talk = Conversation(rate_limit_max_address_messages=1, **WINDOW)
    alice, bob = (talk.connect(name, address="here") for name in ("alice", "bob"))
    carol = talk.connect("carol", address="there")
    for speaker in (alice, bob, carol):
        speaker.registers()
        speaker.hears()

    alice.sends(carol, "1")
    bob.sends(carol, "2")
    carol.sends(bob, "3")

    assert bob.hears()[-2:] == ["error rate_limited", "carol: 3"]
    assert carol.hears() == ["alice: 1"]
