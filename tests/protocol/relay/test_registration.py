"""Who may speak for a key: challenge and proof, pins, policies, sessions that only send."""

from __future__ import annotations

import pytest

from agora.canonical import Json
from agora.codes import CloseCode, ErrorCode
from agora.frames import (
    WATCH_NONE,
    Challenge,
    ErrorAnswer,
    Registered,
    Watched,
    decode_answer,
    encode_authenticate,
    encode_register,
)
from agora.keys import KeyPair
from agora.mailbox import MailboxBounds, MemoryMailbox
from agora.protocol.proof import is_genuine_challenge, sign_proof
from agora.protocol.relay.policies import MailboxPolicy, ProofPolicy
from agora.testing.conversation import AUDIENCE, Conversation, Speaker, keys_of

NONCE = "ab" * 32
RELAY = keys_of("relay").peer_id
MALLORY = keys_of("mallory")


def error_of(speaker: Speaker) -> ErrorAnswer:
    """Return the one error it hears, and nothing else."""
    [answer] = speaker.answers()
    assert isinstance(answer, ErrorAnswer), answer
    return answer


def challenged(talk: Conversation, name: str = "alice") -> tuple[Speaker, Challenge]:
    """Return who has asked for a challenge, with what it was answered."""
    speaker = talk.connect(name)
    speaker.says(encode_register(speaker.id, None, nonce=NONCE))
    [challenge] = speaker.answers()
    assert isinstance(challenge, Challenge)
    return speaker, challenge


def proof_for(keys: KeyPair, challenge: Challenge, audience: str = AUDIENCE) -> str:
    """Return the frame that answers *challenge*."""
    signature = sign_proof(keys, audience=audience, nonce=challenge.nonce, relay=challenge.relay)
    return encode_authenticate(signature, audience)


# Challenge and proof


def test_the_relay_proves_its_own_key_first() -> None:
    alice, challenge = challenged(Conversation())

    assert challenge.relay == RELAY
    assert is_genuine_challenge(
        RELAY, challenge.signature, client_nonce=NONCE, nonce=challenge.nonce, public_key=alice.id
    )


def test_every_connection_is_challenged_differently() -> None:
    talk = Conversation()

    assert challenged(talk)[1].nonce != challenged(talk)[1].nonce


def test_who_proves_its_key_is_told_what_holds_here() -> None:
    talk = Conversation(window_messages=7, max_recipients=3, mailbox_max_messages=9)
    talk.prove("bob")
    alice = talk.prove("alice")

    [welcome] = alice.answers()

    assert isinstance(welcome, Registered)
    assert (welcome.protocol, welcome.relay) == (1, RELAY)
    assert [peer.public_key for peer in welcome.peers] == [keys_of("bob").peer_id]
    assert (welcome.peers_total, welcome.pending) == (1, 0)
    assert welcome.now_ms == talk.clock.wall_ms()
    assert (welcome.limits.window, welcome.limits.max_recipients) == (7, 3)
    assert welcome.limits.mailbox_messages == 9


def test_a_wrong_key_proves_nothing() -> None:
    talk = Conversation()
    alice = talk.connect("alice")

    alice.proves(keys=MALLORY)

    assert error_of(alice).code == "proof_failed"
    assert alice.close_code is CloseCode.PROOF_FAILED


def test_a_proof_for_another_relay_is_none_and_the_error_names_both() -> None:
    alice, challenge = challenged(Conversation())

    alice.says(proof_for(alice.keys, challenge, "relay.example.org:443"))
    error = error_of(alice)

    assert error.code == "proof_failed"
    assert error.message == (
        "Proof failed: it is for relay.example.org:443, and this relay knows itself as "
        f"{AUDIENCE}: connect to that, or have the operator add relay.example.org:443 "
        "to --public-name"
    )
    assert alice.close_code is CloseCode.PROOF_FAILED


def test_what_a_client_says_of_its_audience_proves_nothing() -> None:
    alice, challenge = challenged(Conversation())
    signature = sign_proof(
        alice.keys, audience="elsewhere:1", nonce=challenge.nonce, relay=challenge.relay
    )

    alice.says(encode_authenticate(signature, AUDIENCE))

    assert error_of(alice).code == "proof_failed"


def test_a_strange_audience_is_shown_cleaned_and_cut() -> None:
    alice, challenge = challenged(Conversation())
    signature = proof_for(alice.keys, challenge, "elsewhere:1")

    alice.says({"type": "authenticate", "signature": signature, "audience": "\x1b[31m" + "x" * 999})
    message = error_of(alice).message

    assert "\x1b" not in message
    assert "x" * 150 in message
    assert "x" * 201 not in message


def test_a_proof_is_good_for_one_connection() -> None:
    talk = Conversation()
    _, challenge = challenged(talk)
    again, _ = challenged(talk)

    again.says(proof_for(again.keys, challenge))

    assert error_of(again).code == "proof_failed"


def test_a_proof_is_good_once() -> None:
    alice, challenge = challenged(Conversation())
    alice.says(proof_for(alice.keys, challenge))
    alice.answers()

    alice.says(proof_for(alice.keys, challenge))

    assert error_of(alice).message == "Unknown message type: authenticate"


def test_who_has_failed_is_not_heard_again() -> None:
    alice, challenge = challenged(Conversation())
    alice.says(proof_for(MALLORY, challenge))
    alice.answers()

    alice.says(proof_for(alice.keys, challenge))

    assert alice.answers() == []


def test_a_challenge_that_is_not_answered_in_time_ends_the_connection() -> None:
    talk = Conversation(register_timeout=10.0)
    alice, _ = challenged(talk)

    talk.pass_time(9.9)
    assert alice.close_code is None

    talk.pass_time(0.1)
    assert alice.close_code is CloseCode.REGISTER_TIMEOUT


def test_a_ping_is_answered_while_the_proof_is_awaited() -> None:
    alice, _ = challenged(Conversation())

    alice.asks()

    assert alice.hears() == ["pong"]


def test_a_message_before_the_proof_is_refused_and_named() -> None:
    talk = Conversation()
    alice, challenge = challenged(talk)

    letter = alice.sends(keys_of("bob").peer_id, "too early")
    error = error_of(alice)
    alice.says(proof_for(alice.keys, challenge))

    assert (error.code, error.envelope_id) == ("not_registered", letter.id)
    assert alice.hears() == ["registered"]


@pytest.mark.parametrize("frame_type", ["register", "ack", "nack", "watch", "nonsense"])
def test_nothing_else_is_known_before_the_proof(frame_type: str) -> None:
    alice, challenge = challenged(Conversation())
    members: dict[str, Json] = {"publicKey": alice.id, "ids": ["x"], "presence": "all"}

    alice.says({"type": frame_type} | members)
    error = error_of(alice)
    alice.says(proof_for(alice.keys, challenge))

    assert (error.code, error.message) == (
        "invalid_message",
        f"Unknown message type: {frame_type}",
    )
    assert alice.hears() == ["registered"]


@pytest.mark.parametrize("nonce", [None, 7, "", "ab" * 31, "AB" * 32, "xy" * 32])
def test_a_registration_for_agora_1_needs_a_nonce_for_the_relay_to_sign(nonce: Json) -> None:
    alice = Conversation().connect("alice")

    alice.says({"type": "register", "publicKey": alice.id, "protocol": 1, "nonce": nonce})

    assert error_of(alice).message == "Invalid registration: missing or invalid nonce"


def test_a_later_protocol_is_answered_as_this_one() -> None:
    alice = Conversation().connect("alice")

    alice.says({"type": "register", "publicKey": alice.id, "protocol": 2, "nonce": NONCE})

    assert alice.hears() == ["challenge"]


# Pins


def test_a_proof_counts_when_its_pin_is_committed() -> None:
    talk = Conversation()

    with talk.busy_disk():
        alice = talk.prove("alice")
        assert alice.hears() == []
        assert talk.mailbox.pins() == ()

    assert alice.hears() == ["registered"]
    assert talk.mailbox.pins() == (alice.id,)


def test_what_is_said_while_the_pin_is_committed_is_too_early() -> None:
    talk = Conversation()

    with talk.busy_disk():
        alice = talk.prove("alice")
        alice.sends(alice, "too early")
        alice.asks()
        assert alice.hears() == ["error not_registered", "pong"]

    assert alice.hears() == ["registered"]


def test_a_proven_key_cannot_be_spoken_for_without_proof() -> None:
    talk = Conversation()
    talk.prove("alice").leaves()

    impostor = talk.join("alice")

    assert error_of(impostor).code == "proof_required"
    assert impostor.close_code is CloseCode.PROOF_REQUIRED


def test_a_pin_outlives_a_restart() -> None:
    talk = Conversation()
    talk.prove("alice")

    talk.restart()

    assert error_of(talk.join("alice")).code == "proof_required"
    assert talk.prove("alice").hears() == ["registered"]


def test_a_pin_that_was_not_committed_is_none_after_a_restart() -> None:
    talk = Conversation()
    talk.disk.is_held = True
    talk.prove("alice")

    talk.restart()

    assert talk.join("alice").hears() == ["registered"]


def test_a_key_that_never_proved_itself_may_do_without() -> None:
    talk = Conversation()
    talk.prove("bob")

    assert talk.join("alice").hears() == ["registered with bob"]


def test_a_key_that_was_challenged_and_did_not_answer_is_not_pinned() -> None:
    talk = Conversation()
    challenged(talk)

    assert talk.join("alice").hears() == ["registered"]


def test_the_first_proof_ends_the_sessions_that_proved_nothing() -> None:
    talk = Conversation()
    impostor = talk.join("alice")
    impostor.hears()

    alice = talk.prove("alice")

    assert alice.hears() == ["registered"]
    assert impostor.hears() == ["error proof_required"]
    assert impostor.close_code is CloseCode.PROOF_REQUIRED


def test_who_was_ended_by_a_proof_gets_not_one_message_more() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")
    impostor = talk.join("alice")
    alice = talk.prove("alice")
    impostor.hears()

    bob.sends(alice, "for your eyes")

    assert alice.hears() == ["registered with bob", "bob: for your eyes"]
    assert impostor.hears() == []


def test_for_the_others_a_key_stays_online_while_it_proves_itself() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")
    talk.join("alice")
    bob.hears()

    talk.prove("alice")

    assert talk.join("carol").hears() == ["registered with bob, alice"]
    assert [line for line in bob.hears() if "alice" in line][-1:] != ["alice is offline"]


def test_a_second_proof_ends_nobody() -> None:
    talk = Conversation()
    alice, alice_too = talk.meet_proven("alice", "alice")

    assert (alice.close_code, alice_too.close_code) == (None, None)


class ForgetfulMailbox(MemoryMailbox):
    """Cannot pin while ``is_broken``."""

    is_broken = True

    def pin(self, peer: str, *, now_ms: int) -> None:
        if self.is_broken:
            raise OSError("cannot be written")
        super().pin(peer, now_ms=now_ms)  # type: ignore[arg-type]


def test_a_proof_that_cannot_be_remembered_is_none(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = ForgetfulMailbox(MailboxBounds(max_messages=10, max_bytes=10_000))
    talk = Conversation(mailbox=mailbox)

    alice = talk.prove("alice")

    assert error_of(alice).code == "unavailable"
    assert alice.close_code is CloseCode.TRY_AGAIN_LATER
    assert talk.join("alice").hears() == ["registered"]
    caplog.clear()


def test_what_the_operator_unpins_may_do_without_proof_again() -> None:
    talk = Conversation()
    talk.prove("alice").leaves()

    talk.mailbox.unpin(keys_of("alice").peer_id)
    talk.mailbox.commit()
    talk.restart()

    assert talk.join("alice").hears() == ["registered"]


# How many pins


def test_one_pin_too_many_is_refused_and_no_other_is_given_up_for_it() -> None:
    talk = Conversation(max_pins=1)
    talk.prove("alice").leaves()

    bob = talk.prove("bob")

    assert error_of(bob).code == "at_capacity"
    assert bob.close_code is CloseCode.TRY_AGAIN_LATER
    assert talk.prove("alice").hears() == ["registered"]


def test_at_the_bound_of_pins_who_proves_nothing_may_still_come() -> None:
    talk = Conversation(max_pins=1)
    talk.prove("alice").leaves()

    assert talk.join("bob").hears() == ["registered"]


def test_an_address_brings_only_so_many_new_keys() -> None:
    talk = Conversation(max_pins_per_address=1)
    first = talk.connect("alice", address="here")
    first.proves()

    second = talk.connect("bob", address="here")
    second.proves()
    third = talk.connect("carol", address="there")
    third.proves()

    error = error_of(second)
    assert (error.code, error.retry_after) == (ErrorCode.RATE_LIMITED, 3_600.0)
    assert third.hears() == ["registered with alice"]


def test_a_known_key_is_no_new_one() -> None:
    talk = Conversation(max_pins_per_address=1)
    for _ in range(3):
        alice = talk.connect("alice", address="here")
        alice.proves()
        assert alice.hears() == ["registered"]
        alice.leaves()


# Policies


def test_where_proof_is_required_nobody_comes_without() -> None:
    talk = Conversation(proof=ProofPolicy.REQUIRED)

    stranger = talk.join("alice")

    assert error_of(stranger).code == "proof_required"
    assert stranger.close_code is CloseCode.PROOF_REQUIRED
    assert talk.prove("alice").hears() == ["registered"]


@pytest.mark.parametrize(
    ("mailboxes", "answers"),
    [
        (MailboxPolicy.PROVEN, ["stored to carol", "stored to dave"]),
        (MailboxPolicy.LISTED, ["error unknown_recipient", "stored to dave"]),
        (MailboxPolicy.NONE, ["error unknown_recipient", "error unknown_recipient"]),
    ],
)
def test_who_has_a_mailbox_is_for_the_operator_to_say(
    mailboxes: MailboxPolicy, answers: list[str]
) -> None:
    talk = Conversation(mailboxes=mailboxes, storage_peers=["dave"])
    [alice, carol] = talk.meet_proven("alice", "carol")
    carol.leaves()
    talk.pass_time(1.0)
    alice.hears()

    alice.sends(carol, "waiting")
    alice.sends(keys_of("dave").peer_id, "waiting")

    assert alice.hears() == answers


def test_a_proven_key_is_told_how_much_waits_for_it() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.sends(bob, "1")
    alice.sends(bob, "2")

    bob_again = talk.prove("bob", watched=WATCH_NONE)

    assert bob_again.hears() == ["registered, 2 pending", "alice: 1", "alice: 2"]


# Who is listed


def test_who_watches_some_is_told_of_these() -> None:
    talk = Conversation()
    talk.meet("bob", "carol")
    watched = Watched(peers=frozenset([keys_of("carol").peer_id, keys_of("dave").peer_id]))

    assert talk.prove("alice", watched=watched).hears() == ["registered with carol"]
    assert talk.prove("alice", watched=WATCH_NONE).hears() == ["registered"]


def test_no_more_than_a_thousand_are_listed_and_all_are_counted() -> None:
    talk = Conversation(max_sessions=5, rate_limit_enabled=False, presence_interval=1e6)
    for number in range(1_001):
        talk.prove(f"peer {number}", watched=WATCH_NONE)

    [welcome] = talk.prove("alice").answers()

    assert isinstance(welcome, Registered)
    assert (len(welcome.peers), welcome.peers_total) == (1_000, 1_001)


# Sessions that only send


def test_who_only_sends_is_announced_to_nobody() -> None:
    talk = Conversation()
    [bob] = talk.meet("bob")
    [carol] = talk.meet_proven("carol")
    bob.hears()

    alice = talk.prove("alice", receives=False)
    talk.pass_time(1.0)
    alice.leaves()
    talk.pass_time(1.0)

    assert bob.hears() == []
    assert carol.hears() == []
    assert talk.join("dave").hears() == ["registered with bob, carol"]


def test_who_only_sends_gets_no_mail_and_loses_none() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    bob.leaves()
    alice.sends(bob, "waiting")

    sender = talk.prove("bob", receives=False, watched=WATCH_NONE)
    alice.sends(bob, "waiting too")
    assert sender.hears() == ["registered, 1 pending"]
    sender.leaves()

    assert talk.mailbox.count(bob.id)[0] == 2


def test_who_only_sends_may_send_and_gets_receipts() -> None:
    talk = Conversation()
    [bob] = talk.meet_proven("bob")
    alice = talk.prove("alice", receives=False)
    alice.hears()

    letter = alice.sends(bob, "hi")
    bob.acks(letter)

    assert bob.hears() == ["alice: hi"]
    assert alice.hears() == ["delivered to bob"]


def test_no_broadcast_reaches_who_only_sends() -> None:
    talk = Conversation()
    [bob] = talk.meet_proven("bob")
    alice = talk.prove("alice", receives=False)
    alice.hears()

    bob.broadcasts("hear, hear")

    assert alice.hears() == []
    assert bob.hears() == ["sent to *"]


def test_who_only_sends_may_ack_what_another_session_got() -> None:
    talk = Conversation()
    alice, bob = talk.meet_proven("alice", "bob")
    sender = talk.prove("bob", receives=False)
    sender.hears()
    letter = alice.sends(bob, "hi")

    sender.acks(letter)

    assert alice.hears() == ["delivered to bob"]


def test_who_only_sends_counts_against_no_bound_on_peers() -> None:
    talk = Conversation(max_peers=1)
    talk.join("alice")

    assert talk.prove("bob", receives=False).hears() == ["registered with alice"]


# Registered, and its own text


def test_a_challenge_has_the_members_of_the_contract_and_no_others() -> None:
    alice = Conversation().connect("alice")
    alice.says(encode_register(alice.id, None, nonce=NONCE))

    [text] = alice.texts()
    challenge = decode_answer(text)

    assert isinstance(challenge, Challenge)
    assert text == (
        f'{{"type":"challenge","nonce":"{challenge.nonce}","relay":"{RELAY}",'
        f'"signature":"{challenge.signature}"}}'
    )


# What was found from outside


def test_who_proves_itself_again_after_an_unpin_is_pinned_again() -> None:
    talk = Conversation()
    alice = talk.prove("alice")
    talk.mailbox.unpin(alice.id)
    talk.mailbox.commit()

    talk.prove("alice")

    assert alice.id in talk.mailbox.pins()


def test_a_pin_counts_also_if_its_connection_is_gone_when_it_is_written() -> None:
    talk = Conversation()
    alice = talk.connect("alice")
    alice.proves(answer=False)
    with talk.busy_disk():
        alice.authenticates(alice.keys)
        alice.leaves()

    mallory = talk.join("alice")

    assert mallory.hears() == ["error proof_required"]


def test_bounds_hold_also_for_those_who_prove_themselves_at_the_same_time() -> None:
    talk = Conversation(max_sessions=2, max_pins=3)
    crowd = [talk.connect(name) for name in ("alice", "alice", "alice", "bob", "carol", "dave")]
    for speaker in crowd:
        speaker.proves(answer=False)
    with talk.busy_disk():
        for speaker in crowd:
            speaker.authenticates(speaker.keys)
    closed = [speaker.close_code is not None for speaker in crowd]

    assert closed == [False, False, True, False, False, True]
    assert len(talk.mailbox.pins()) == 3


def test_nobody_is_the_relay_without_proof() -> None:
    talk = Conversation()

    assert talk.join("relay").hears() == ["error proof_required"]
