"""The keys that have proven themselves: how many, and who brings them."""

from __future__ import annotations

from typing import Any

import pytest

from agora.limits import Limits
from agora.protocol.relay.pins import Pins
from agora.protocol.relay.refusal import Refusal
from agora.testing.conversation import keys_of

ALICE, BOB, CAROL = (keys_of(name).peer_id for name in ("alice", "bob", "carol"))


def new_pins(*known: str, **limits: Any) -> Pins:
    return Pins(Limits(**limits), [keys_of(name).peer_id for name in known])


def bring(pins: Pins, name: str, address: str = "here", now: float = 0.0) -> None:
    """Pin who is called *name*, as a session does."""
    peer = keys_of(name).peer_id
    pins.begin(peer, address, now)
    pins.settle(peer, is_pinned=True)


def refusal_of(pins: Pins, address: str = "here", now: float = 0.0) -> Refusal:
    with pytest.raises(Refusal) as caught:
        pins.begin(keys_of("one more").peer_id, address, now)
    return caught.value


def test_what_was_known_before_is_known() -> None:
    pins = new_pins("alice")

    assert (ALICE in pins, BOB in pins, len(pins)) == (True, False, 1)


def test_what_is_pinned_is_known_once() -> None:
    pins = new_pins()
    bring(pins, "alice")
    bring(pins, "alice")

    assert (ALICE in pins, len(pins)) == (True, 1)


def test_what_could_not_be_committed_is_not_pinned_and_takes_no_room() -> None:
    pins = new_pins(max_pins=1)
    pins.begin(ALICE, "here", 0.0)
    assert refusal_of(pins).code == "at_capacity"

    pins.settle(ALICE, is_pinned=False)
    bring(pins, "bob")

    assert (ALICE in pins, BOB in pins) == (False, True)


@pytest.mark.parametrize("thing", [None, 7, "", "x", "00" * 44, ALICE.upper(), ALICE + "00"])
def test_what_is_no_peer_id_is_not_pinned(thing: object) -> None:
    assert thing not in new_pins("alice")


def test_what_the_operator_has_changed_is_taken_over() -> None:
    pins = new_pins("alice", "bob")

    pins.replace([BOB, CAROL])

    assert (ALICE in pins, BOB in pins, CAROL in pins) == (False, True, True)


def test_at_the_bound_there_is_no_room() -> None:
    pins = new_pins("alice", max_pins=2)
    bring(pins, "bob")

    assert refusal_of(pins).code == "at_capacity"


def test_an_address_brings_only_so_many_in_an_hour() -> None:
    pins = new_pins(max_pins_per_address=2)
    bring(pins, "alice")
    bring(pins, "bob")

    refusal = refusal_of(pins, "here")

    assert (refusal.code, refusal.retry_after) == ("rate_limited", 1_800.0)
    bring(pins, "carol", "there")
    bring(pins, "dave", "here", 1_800.0)


def test_who_waits_brings_more_also_after_the_relay_has_tidied_up() -> None:
    pins = new_pins(max_pins_per_address=1)
    bring(pins, "alice")

    pins.tick(1_800.0)
    assert refusal_of(pins, "here", 1_800.0).retry_after == 1_800.0

    pins.tick(3_600.0)
    bring(pins, "bob", "here", 3_600.0)


def test_where_rates_are_off_an_address_brings_any_number_up_to_the_bound() -> None:
    pins = new_pins(max_pins_per_address=1, max_pins=3, rate_limit_enabled=False)

    for name in ("alice", "bob", "carol"):
        bring(pins, name)

    assert refusal_of(pins).code == "at_capacity"
