"""Signatures are verified elsewhere, while the conversation goes on: what waits for what."""

from __future__ import annotations

import pytest

from agora.canonical import Json
from agora.codes import CloseCode
from agora.envelope import Envelope
from agora.frames import encode_submit
from agora.protocol.relay.policies import VerifyPolicy
from agora.testing.conversation import Conversation, Speaker, keys_of


def forged(envelope: Envelope) -> str:
    """Return the text of an envelope whose signature is another's."""
    return envelope.wire_text.replace(envelope.signature, "5" * 128)


def submits_forged(speaker: Speaker, to: Speaker) -> Envelope:
    envelope = speaker.seals(to.id, "forged")
    speaker.says(encode_submit(to.id, forged(envelope)))
    return envelope


def test_nothing_goes_on_before_it_is_verified() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, "hi")

        assert bob.hears() == []

    assert bob.hears() == ["alice: hi"]


@pytest.mark.parametrize("meet", ["meet", "meet_proven"])
def test_messages_keep_their_order_in_whatever_order_they_are_verified(meet: str) -> None:
    talk = Conversation()
    alice, bob = getattr(talk, meet)("alice", "bob")

    with talk.busy_cores():
        for number in range(5):
            alice.sends(bob, number)

    assert bob.hears() == [f"alice: {number}" for number in range(5)]


def test_what_needs_no_verification_does_not_overtake_what_does() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, "plain")
        alice.sends(bob, 1e-9)  # a number that only the long way can write

    assert bob.hears() == ["alice: plain", "alice: 1e-9"]


def test_one_forgery_among_others_is_refused_alone() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, 1)
        envelope = submits_forged(alice, bob)
        alice.sends(bob, 2)

    assert bob.hears() == ["alice: 1", "alice: 2"]
    [text] = alice.texts()
    assert envelope.id in text
    assert "signature_invalid" in text


def test_what_cannot_be_right_costs_no_verification() -> None:
    talk = Conversation()
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    of_carol, other = carol.seals(bob.id, "mine"), alice.seals(bob.id, "other")

    with talk.busy_cores():
        alice.submits(of_carol, bob)
        alice.submits(alice.seals(carol.id, "not for bob"), bob)
        alice.says(encode_submit(bob.id, other.wire_text.replace("other", "changed")))

        assert talk.cores.waiting == 0
        assert [line.split(":")[0] for line in alice.hears()] == [
            "error sender_mismatch",
            "error recipient_mismatch",
            "error invalid_envelope",
        ]


def test_no_more_is_verified_than_the_rate_lets_in() -> None:
    talk = Conversation(rate_limit_max_messages=2)
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        for number in range(5):
            alice.sends(bob, number)

        assert talk.cores.waiting == 2

    assert bob.hears() == ["alice: 0", "alice: 1"]
    assert [line.split(":")[0] for line in alice.hears()] == ["error rate_limited"] * 3


def test_a_message_to_many_counts_as_many_before_it_is_verified() -> None:
    talk = Conversation(rate_limit_max_messages=5)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")

    with talk.busy_cores():
        for number in range(4):
            envelope = alice.seals([bob.id, carol.id], number)
            to: list[Json] = [bob.id, carol.id]
            alice.says({"type": "message", "to": to, "envelope": envelope.to_dict()})

        assert talk.cores.waiting == 2


def test_acks_do_not_wait_for_signatures() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.sends(bob, "hi")

    with talk.busy_cores():
        bob.sends(alice, "of mine")
        bob.acks(envelope)

        assert alice.hears() == ["delivered to bob"]


def test_a_pong_in_the_reference_dialect_waits_for_what_is_being_verified() -> None:
    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, "hi")
        alice.asks()

        assert alice.hears() == []

    assert alice.hears() == ["pong"]


def test_a_pong_does_not_wait_for_ever_behind_a_forgery() -> None:
    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")

    with talk.busy_cores():
        submits_forged(alice, bob)
        alice.asks()

    assert [line.split(":")[0] for line in alice.hears()] == ["error invalid_envelope", "pong"]


def test_a_pong_comes_behind_the_refusal_of_what_came_before() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        submits_forged(alice, bob)
        alice.asks()
        alice.sends(bob, "hi")
        alice.asks()

        assert alice.hears() == []

    assert [line.split(":")[0] for line in alice.hears()] == [
        "error invalid_envelope",
        "pong",
        "pong",
    ]


def test_what_was_said_before_leaving_goes_on_its_way() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, "goodbye")
        alice.leaves()

        assert bob.hears() == ["alice: goodbye"]


def test_a_relay_that_stops_takes_what_has_come() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()

    with talk.busy_cores():
        envelope = alice.sends(bob, "hi")
        talk.node.take_nothing_more()
        talk.settle()

        assert alice.hears() == ["stored to bob"]

    [mail] = talk.mailbox.page(bob.id, after=0, max_messages=9, max_bytes=9_999).mail
    assert mail.envelope_id == envelope.id


def test_what_waits_in_a_session_that_proves_nothing_ends_with_it() -> None:
    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, "hi")
        owner = talk.prove("alice")

        assert alice.hears() == ["error proof_required"]
        assert alice.close_code is CloseCode.PROOF_REQUIRED
        assert owner.hears() == ["registered with bob"]

    assert "alice: hi" not in bob.hears()


# --verify session


def test_a_relay_may_trust_the_signatures_of_proven_sessions() -> None:
    talk = Conversation(verify=VerifyPolicy.SESSION)
    alice, bob = talk.meet_proven("alice", "bob")

    with talk.busy_cores():
        alice.sends(bob, "hi")
        submits_forged(alice, bob)

        assert talk.cores.waiting == 0
        assert len(bob.texts()) == 2


def test_sender_recipient_and_id_are_checked_all_the_same() -> None:
    talk = Conversation(verify=VerifyPolicy.SESSION)
    alice, bob, carol = talk.meet_proven("alice", "bob", "carol")
    letter = alice.seals(bob.id, "hi")

    alice.submits(carol.seals(bob.id, "mine"), bob)
    alice.submits(letter, carol)
    alice.says(encode_submit(bob.id, letter.wire_text.replace('"hi"', '"ho"')))

    assert [line.split(":")[0] for line in alice.hears()] == [
        "error sender_mismatch",
        "error recipient_mismatch",
        "error invalid_envelope",
    ]


@pytest.mark.parametrize("signature", ["", "5" * 127 + "F", '"},"type":"pong","x":{"":"'])
def test_what_cannot_be_a_signature_is_not_passed_on(signature: str) -> None:
    talk = Conversation(verify=VerifyPolicy.SESSION)
    alice, bob = talk.meet_proven("alice", "bob")
    envelope = alice.seals(bob.id, "hi").to_dict() | {"signature": signature.ljust(128)}

    for signed in (envelope, envelope | {"signature": signature}):
        alice.says({"type": "message", "to": bob.id, "envelope": signed})

    assert bob.texts() == []
    assert [line.split(":")[0] for line in alice.hears()] == ["error invalid_envelope"] * 2


def test_the_relay_itself_looks_into_nothing_that_is_forged() -> None:
    talk = Conversation(verify=VerifyPolicy.SESSION)
    alice, bob = talk.meet_proven("alice", "bob")
    relay = keys_of("relay").peer_id
    envelope = alice.seals([bob.id, relay], "hi")

    alice.says(
        {
            "type": "message",
            "to": [bob.id, relay],
            "envelope": envelope.to_dict() | {"signature": "5" * 128},
        }
    )

    assert bob.hears() == ["alice: hi"]
    assert alice.hears() == ["error invalid_envelope"]


def test_who_has_proven_nothing_is_verified_all_the_same() -> None:
    talk = Conversation(verify=VerifyPolicy.SESSION)
    alice, bob = talk.meet("alice", "bob")

    submits_forged(alice, bob)

    assert bob.hears() == []
    assert [line.split(":")[0] for line in alice.hears()] == ["error invalid_envelope"]
