"""Who gets what, in which order, and what the others hear: dialogues through a real node."""

from __future__ import annotations

import json

import pytest

from agora.canonical import parse_json
from agora.codes import CloseCode
from agora.envelope import EVERYONE, open_envelope
from agora.frames import Delivery, ErrorAnswer, ListedPeer, PeerOffline, PeerOnline
from agora.mailbox import MailboxBounds, MemoryMailbox
from agora.protocol.relay.actions import Mail
from agora.testing.conversation import Conversation, Speaker, keys_of

CAROL = keys_of("carol").peer_id


def error_of(speaker: Speaker) -> ErrorAnswer:
    """Return the one error it hears, and nothing else."""
    [answer] = speaker.answers()
    assert isinstance(answer, ErrorAnswer)
    return answer


# One to one


def test_a_message_reaches_its_recipient_and_nobody_else() -> None:
    alice, bob, carol = Conversation().meet("alice", "bob", "carol")

    alice.sends(bob, "hi")

    assert bob.hears() == ["alice: hi"]
    assert carol.hears() == []
    assert alice.hears() == []


def test_a_message_says_who_sent_it_and_under_which_name() -> None:
    talk = Conversation()
    alice = talk.connect("alice")
    alice.registers("Alice")
    [bob] = talk.meet("bob")

    letter = alice.sends(bob, "hi")
    [delivery] = bob.answers()

    assert isinstance(delivery, Delivery)
    assert (delivery.sender, delivery.name) == (alice.id, "Alice")
    assert open_envelope(delivery.envelope) == letter


def test_a_message_reaches_every_session_of_its_recipient_once() -> None:
    alice, bob, bob_too = Conversation().meet("alice", "bob", "bob")

    alice.sends(bob, "hi")

    assert bob.hears() == ["alice: hi"]
    assert bob_too.hears() == ["alice: hi"]


def test_a_message_to_oneself_reaches_all_ones_sessions() -> None:
    alice, alice_too = Conversation().meet("alice", "alice")

    alice.sends(alice, "note")

    assert alice.hears() == ["alice: note"]
    assert alice_too.hears() == ["alice: note"]


def test_messages_arrive_in_the_order_in_which_they_were_sent() -> None:
    alice, bob = Conversation().meet("alice", "bob")

    for number in range(20):
        alice.sends(bob, str(number))

    assert bob.hears() == [f"alice: {number}" for number in range(20)]


def test_what_is_not_signed_does_not_ride_along() -> None:
    alice, bob = Conversation().meet("alice", "bob")
    letter = alice.seals(bob.id, "hi")

    alice.says(
        {"type": "message", "to": bob.id, "envelope": letter.to_dict() | {"extra": "unsigned"}}
    )

    [text] = bob.texts()
    assert json.loads(text)["envelope"] == letter.to_dict()


def test_nobody_can_be_reached_under_an_unknown_key() -> None:
    [alice] = Conversation().meet("alice")

    letter = alice.sends(CAROL, "hi")
    answer = error_of(alice)

    assert (answer.code, answer.envelope_id, answer.to) == ("unknown_recipient", letter.id, CAROL)
    assert answer.message == f"Recipient not connected: {CAROL}"


def test_what_was_sent_too_early_can_be_sent_again_unchanged() -> None:
    talk = Conversation()
    [alice] = talk.meet("alice")
    letter = alice.sends(CAROL, "hi")

    [carol] = talk.meet("carol")
    alice.submits(letter, carol)

    assert carol.hears() == ["alice: hi"]


# Genuine or not


def test_nobody_sends_what_another_has_signed() -> None:
    alice, bob, mallory = Conversation().meet("alice", "bob", "mallory")

    mallory.submits(alice.seals(bob.id, "hi"), bob)

    assert mallory.hears() == ["error sender_mismatch"]
    assert bob.hears() == []


def test_nobody_sends_to_a_peer_that_the_envelope_does_not_name() -> None:
    alice, bob, carol = Conversation().meet("alice", "bob", "carol")

    letter = alice.seals(bob.id, "hi")
    alice.submits(letter, carol)
    answer = error_of(alice)

    assert (answer.code, answer.envelope_id) == ("recipient_mismatch", letter.id)
    assert carol.hears() == []


def test_a_broken_envelope_is_refused_with_its_reason() -> None:
    alice, bob = Conversation().meet("alice", "bob")
    broken = alice.seals(bob.id, "hi").to_dict() | {"payload": "bye"}

    alice.says({"type": "message", "to": bob.id, "envelope": broken})

    [text] = alice.texts()
    assert json.loads(text) == {
        "type": "error",
        "message": "Invalid envelope: id_mismatch",
        "code": "invalid_envelope",
        "reason": "id_mismatch",
        "id": broken["id"],
        "to": bob.id,
    }


def test_a_tampered_copy_does_not_keep_the_genuine_message_out() -> None:
    alice, bob = Conversation().meet("alice", "bob")
    letter = alice.seals(bob.id, "hi")

    alice.says(
        {"type": "message", "to": bob.id, "envelope": letter.to_dict() | {"signature": "00" * 64}}
    )
    alice.submits(letter, bob)

    assert alice.hears() == ["error invalid_envelope"]
    assert bob.hears() == ["alice: hi"]


# Once


def test_a_duplicate_is_answered_and_not_delivered_again() -> None:
    alice, bob = Conversation().meet("alice", "bob")

    letter = alice.sends(bob, "hi")
    alice.submits(letter, bob)
    answer = error_of(alice)

    assert (answer.code, answer.envelope_id, answer.to) == ("duplicate", letter.id, bob.id)
    assert bob.hears() == ["alice: hi"]


def test_one_envelope_to_two_recipients_is_two_deliveries() -> None:
    alice, bob, carol = Conversation().meet("alice", "bob", "carol")
    letter = alice.seals([bob.id, carol.id], "hi")

    alice.submits(letter, bob)
    alice.submits(letter, carol)

    assert bob.hears() == ["alice: hi"]
    assert carol.hears() == ["alice: hi"]


def test_after_the_replay_window_a_duplicate_is_taken_again() -> None:
    talk = Conversation(dedup_max_age=600.0)
    alice, bob = talk.meet("alice", "bob")
    letter = alice.sends(bob, "hi")

    talk.pass_time(1.0)
    talk.pass_time(600.1)
    alice.submits(letter, bob)

    assert bob.hears() == ["alice: hi"] * 2


def test_repeats_are_delivered_where_nobody_asked_to_refuse_them() -> None:
    alice, bob = Conversation(dedup_enabled=False).meet("alice", "bob")

    letter = alice.sends(bob, "hi")
    alice.submits(letter, bob)

    assert bob.hears() == ["alice: hi"] * 2


# One to all


def test_a_broadcast_reaches_every_session_of_everyone_else() -> None:
    talk = Conversation()
    alice, alice_too, bob, bob_too, carol = talk.meet("alice", "alice", "bob", "bob", "carol")

    alice.broadcasts("hear, hear")

    assert [peer.hears() for peer in (bob, bob_too, carol)] == [["alice: hear, hear"]] * 3
    assert alice.hears() == alice_too.hears() == []


def test_a_broadcast_need_not_name_everyone() -> None:
    alice, bob, carol = Conversation().meet("alice", "bob", "carol")
    letter = alice.seals(carol.id, "hi")

    alice.says({"type": "broadcast", "envelope": letter.to_dict()})

    assert bob.hears() == ["alice: hi"]


def test_a_broadcast_is_stored_for_nobody() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet("alice")

    alice.broadcasts("hear, hear")

    assert talk.mailbox.count(CAROL) == (0, 0)
    assert talk.join("carol").hears() == ["registered with alice"]


def test_a_broadcast_twice_is_a_duplicate() -> None:
    alice, bob = Conversation().meet("alice", "bob")

    letter = alice.broadcasts("hear, hear")
    alice.says({"type": "broadcast", "envelope": letter.to_dict()})
    answer = error_of(alice)

    assert (answer.code, answer.envelope_id, answer.to) == ("duplicate", letter.id, None)
    assert bob.hears() == ["alice: hear, hear"]


def test_a_message_to_everyone_is_no_broadcast() -> None:
    alice, bob = Conversation().meet("alice", "bob")

    alice.sends(EVERYONE, "hear, hear")

    assert alice.hears() == ["error unknown_recipient"]
    assert bob.hears() == []


# How often


def test_one_message_too_many_is_refused_and_told_how_long_to_wait() -> None:
    talk = Conversation(rate_limit_max_messages=2, rate_limit_window_ms=10_000)
    alice, bob = talk.meet("alice", "bob")
    alice.sends(bob, "1")
    alice.sends(bob, "2")

    letter = alice.sends(bob, "3")
    answer = error_of(alice)

    assert (answer.code, answer.retry_after) == ("rate_limited", 5.0)
    assert (answer.envelope_id, answer.to) == (letter.id, bob.id)
    assert bob.hears() == ["alice: 1", "alice: 2"]


def test_what_was_refused_for_its_rate_can_be_sent_again_unchanged() -> None:
    talk = Conversation(rate_limit_max_messages=1, rate_limit_window_ms=10_000)
    alice, bob = talk.meet("alice", "bob")
    alice.sends(bob, "1")
    letter = alice.sends(bob, "2")

    talk.pass_time(10.0)
    alice.submits(letter, bob)

    assert bob.hears() == ["alice: 1", "alice: 2"]


def test_the_rate_is_that_of_the_key_not_of_the_session() -> None:
    talk = Conversation(rate_limit_max_messages=1)
    alice, alice_too, bob = talk.meet("alice", "alice", "bob")

    alice.sends(bob, "1")
    alice_too.sends(bob, "2")

    assert alice_too.hears() == ["error rate_limited"]


def test_a_stranger_who_cannot_sign_does_not_use_up_the_owners_rate() -> None:
    talk = Conversation(rate_limit_max_messages=1)
    alice, impostor, bob = talk.meet("alice", "alice", "bob")
    forged = alice.seals(bob.id, "forged").to_dict() | {"signature": "00" * 64}

    for _ in range(3):
        impostor.says({"type": "message", "to": bob.id, "envelope": forged})
    alice.sends(bob, "hi")

    assert bob.hears() == ["alice: hi"]


def test_a_duplicate_costs_nothing_of_the_rate() -> None:
    talk = Conversation(rate_limit_max_messages=2)
    alice, bob = talk.meet("alice", "bob")
    letter = alice.sends(bob, "1")

    alice.submits(letter, bob)
    alice.sends(bob, "2")

    assert bob.hears() == ["alice: 1", "alice: 2"]


def test_a_broadcast_counts_for_several_messages() -> None:
    talk = Conversation(rate_limit_max_messages=10, broadcast_cost=10)
    alice, bob = talk.meet("alice", "bob")

    alice.broadcasts("hear, hear")
    alice.sends(bob, "hi")

    assert alice.hears() == ["error rate_limited"]


def test_a_broadcast_that_costs_more_than_the_rate_holds_can_still_be_sent() -> None:
    talk = Conversation(rate_limit_max_messages=5, broadcast_cost=10)
    alice, bob = talk.meet("alice", "bob")

    alice.broadcasts("hear, hear")

    assert bob.hears() == ["alice: hear, hear"]


# Who is there


def test_the_others_hear_who_comes_and_who_goes() -> None:
    talk = Conversation()
    [alice] = talk.meet("alice")

    bob = talk.join("bob")
    bob.leaves()

    assert alice.hears() == ["bob is online", "bob is offline"]


def test_presence_carries_the_name() -> None:
    talk = Conversation()
    [alice] = talk.meet("alice")
    bob = talk.connect("bob")

    bob.registers("Bob")
    bob.leaves()

    named = ListedPeer(bob.id, "Bob")
    assert alice.answers() == [PeerOnline(named), PeerOffline(named)]


def test_only_the_first_session_comes_and_only_the_last_one_goes() -> None:
    talk = Conversation()
    [alice] = talk.meet("alice")
    bob, bob_too = talk.join("bob"), talk.join("bob")

    bob.leaves()
    assert alice.hears() == ["bob is online"]

    bob_too.leaves()
    assert alice.hears() == ["bob is offline"]


def test_nobody_is_told_of_their_own_sessions() -> None:
    talk = Conversation()
    [alice] = talk.meet("alice")

    talk.join("alice").leaves()

    assert alice.hears() == []


def test_the_end_of_one_session_leaves_the_others_of_its_peer_alone() -> None:
    alice, bob, bob_too = Conversation().meet("alice", "bob", "bob")

    bob.leaves()
    alice.sends(bob_too, "still there?")

    assert bob_too.hears() == ["alice: still there?"]


def test_a_storage_peer_comes_again_and_again_and_never_goes() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet("alice")

    for _ in range(2):
        talk.join("carol").leaves()

    assert alice.hears() == ["carol is online"] * 2


# Mail


def test_mail_for_a_storage_peer_waits_until_it_comes() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet("alice")

    alice.sends(CAROL, "1")
    alice.sends(CAROL, "2")
    carol = talk.join("carol")

    assert carol.hears() == ["registered with alice", "alice: 1", "alice: 2"]
    assert alice.hears() == ["carol is online"]


def test_mail_keeps_the_name_under_which_it_was_sent() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice = talk.connect("alice")
    alice.registers("Alice")
    alice.sends(CAROL, "hi")
    alice.leaves()

    [_, delivery] = talk.join("carol").answers()

    assert isinstance(delivery, Delivery)
    assert delivery.name == "Alice"


def test_mail_for_a_storage_peer_that_is_there_reaches_it_at_once() -> None:
    alice, carol = Conversation(storage_peers=["carol"]).meet("alice", "carol")

    alice.sends(carol, "hi")

    assert carol.hears() == ["alice: hi"]


def test_mail_is_delivered_only_after_it_was_committed() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")

    with talk.busy_disk():
        alice.sends(carol, "hi")
        alice.asks()
        assert carol.hears() == []
        assert alice.hears() == []

    assert carol.hears() == ["alice: hi"]
    assert alice.hears() == ["pong"]


def test_mail_that_a_session_has_confirmed_is_gone() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")

    alice.sends(carol, "hi")

    assert talk.mailbox.count(CAROL) == (0, 0)
    assert talk.join("carol").hears() == ["registered with alice"]


def test_mail_that_no_session_has_confirmed_comes_again() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    alice.sends(carol, "hi")
    carol.leaves()

    assert talk.join("carol").hears() == ["registered with alice", "alice: hi"]


def test_a_pong_confirms_all_mail_before_its_ping_and_none_behind() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    for number in range(3):
        alice.sends(carol, str(number))

    carol.pongs(carol.pings[1])
    carol.leaves()

    assert talk.join("carol").hears() == ["registered with alice", "alice: 2"]


@pytest.mark.parametrize("payload", [b"", b"x", b"-1", b"0", b"\xff" * 125, "٣".encode()])
def test_a_pong_to_no_ping_confirms_nothing(payload: bytes) -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    alice.sends(carol, "hi")

    carol.pongs(payload)

    assert talk.mailbox.count(CAROL)[0] == 1


def test_a_pong_cannot_confirm_what_was_not_sent() -> None:
    talk = Conversation(storage_peers=["carol"], window_messages=1)
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    alice.sends(carol, "1")
    alice.sends(carol, "2")

    carol.pongs(b"9" * 125)

    assert carol.hears() == ["alice: 1", "alice: 2"]
    assert talk.mailbox.count(CAROL)[0] == 1


def test_nobody_confirms_the_mail_of_another() -> None:
    talk = Conversation(storage_peers=["carol", "dave"])
    alice, carol, dave = talk.meet("alice", "carol", "dave")
    carol.answers_pings = False
    alice.sends(carol, "hi")

    dave.pongs(carol.pings[0])
    alice.pongs(carol.pings[0])

    assert talk.mailbox.count(CAROL)[0] == 1


def test_no_more_mail_is_in_flight_than_the_window_holds() -> None:
    talk = Conversation(storage_peers=["carol"], window_messages=2)
    [alice] = talk.meet("alice")
    for number in range(5):
        alice.sends(CAROL, str(number))
    carol = talk.connect("carol")
    carol.answers_pings = False

    carol.registers()
    assert carol.hears() == ["registered with alice", "alice: 0", "alice: 1"]

    carol.pongs(carol.pings.pop())
    assert carol.hears() == ["alice: 2", "alice: 3"]


def test_mail_behind_a_full_window_follows_in_order() -> None:
    talk = Conversation(storage_peers=["carol"], window_messages=1)
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    for number in range(4):
        alice.sends(carol, str(number))

    while carol.pings:
        carol.pongs(carol.pings.pop())

    assert carol.hears() == [f"alice: {number}" for number in range(4)]


def test_mail_larger_than_the_window_passes_alone() -> None:
    talk = Conversation(storage_peers=["carol"], window_bytes=1024)
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    large = "x" * 2000
    alice.sends(carol, large)
    alice.sends(carol, "small")

    assert carol.hears() == [f"alice: {large}"]
    carol.pongs(carol.pings.pop())
    assert carol.hears() == ["alice: small"]


def test_every_session_gets_the_mail_until_one_has_confirmed_it() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")
    carol.answers_pings = False
    alice.sends(carol, "hi")

    carol_too = talk.join("carol")

    assert carol.hears() == ["alice: hi"]
    assert carol_too.hears() == ["registered with alice", "alice: hi"]
    assert talk.mailbox.count(CAROL) == (0, 0)


def test_mail_stored_while_a_session_fetches_comes_once_and_in_order() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet("alice")
    alice.sends(CAROL, "1")

    with talk.busy_disk():
        alice.sends(CAROL, "2")
        carol = talk.join("carol")
        alice.sends(CAROL, "3")

    assert carol.hears() == ["registered with alice", "alice: 1", "alice: 2", "alice: 3"]


def test_a_full_mailbox_is_said_to_the_sender_and_nothing_older_is_thrown_away() -> None:
    talk = Conversation(storage_peers=["carol"], mailbox_max_messages=1)
    [alice] = talk.meet("alice")
    alice.sends(CAROL, "1")

    letter = alice.sends(CAROL, "2")
    answer = error_of(alice)

    assert (answer.code, answer.envelope_id, answer.to) == ("mailbox_full", letter.id, CAROL)
    assert talk.join("carol").hears() == ["registered with alice", "alice: 1"]


def test_what_a_full_mailbox_refused_can_be_sent_again_unchanged() -> None:
    talk = Conversation(storage_peers=["carol"], mailbox_max_messages=1)
    [alice] = talk.meet("alice")
    alice.sends(CAROL, "1")
    letter = alice.sends(CAROL, "2")

    carol = talk.join("carol")
    alice.submits(letter, carol)

    assert carol.hears() == ["registered with alice", "alice: 1", "alice: 2"]


def test_mail_that_was_taken_is_a_duplicate_also_when_it_has_been_fetched() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")

    letter = alice.sends(carol, "hi")
    alice.submits(letter, carol)

    assert alice.hears() == ["error duplicate"]
    assert carol.hears() == ["alice: hi"]


def test_a_repeat_of_mail_still_being_stored_is_answered_when_that_is_known() -> None:
    talk = Conversation(storage_peers=["carol"])
    alice, carol = talk.meet("alice", "carol")

    with talk.busy_disk():
        letter = alice.sends(carol, "hi")
        alice.submits(letter, carol)
        assert alice.hears() == []

    assert alice.hears() == ["error duplicate"]
    assert carol.hears() == ["alice: hi"]


BOUNDS = MailboxBounds(max_messages=10, max_bytes=10_000)


class BrokenMailbox(MemoryMailbox):
    """Takes nothing while ``is_broken``: a disk that cannot be written."""

    is_broken = False

    def put(self, mail: Mail, *, now_ms: int, is_owed: bool = False, follows: int = 0) -> None:
        if self.is_broken:
            raise OSError("cannot be written")
        super().put(mail, now_ms=now_ms, is_owed=is_owed, follows=follows)


def test_mail_that_cannot_be_stored_is_said_to_the_sender_who_may_send_it_again() -> None:
    mailbox = BrokenMailbox(BOUNDS)
    talk = Conversation(storage_peers=["carol"], mailbox=mailbox)
    alice, carol = talk.meet("alice", "carol")
    mailbox.is_broken = True
    letter = alice.sends(carol, "hi")

    assert alice.hears() == ["error unavailable"]

    mailbox.is_broken = False
    alice.submits(letter, carol)
    assert carol.hears() == ["alice: hi"]


def test_a_repeat_of_mail_whose_storing_fails_is_never_called_a_duplicate() -> None:
    mailbox = BrokenMailbox(BOUNDS)
    talk = Conversation(storage_peers=["carol"], mailbox=mailbox)
    alice, alice_again = talk.meet("alice", "alice")
    mailbox.is_broken = True

    with talk.busy_disk():
        letter = alice.sends(CAROL, "hi")
        alice.leaves()  # and comes back, before it was told anything
        alice_again.submits(letter, CAROL)

    assert alice_again.hears() == ["error unavailable"]


def test_mail_of_a_sender_who_left_meanwhile_is_stored_all_the_same() -> None:
    talk = Conversation(storage_peers=["carol"])
    [alice] = talk.meet("alice")

    with talk.busy_disk():
        alice.sends(CAROL, "hi")
        alice.leaves()

    assert talk.join("carol").hears() == ["registered", "alice: hi"]


def test_mail_that_grew_too_old_is_removed() -> None:
    talk = Conversation(storage_peers=["carol"], mailbox_max_age=3600.0)
    [alice] = talk.meet("alice")
    alice.sends(CAROL, "old")
    talk.pass_time(3000.0)
    alice.sends(CAROL, "new")

    talk.pass_time(700.0)

    assert talk.mailbox.count(CAROL)[0] == 1


# What costs more than it shows


def test_an_envelope_that_grows_in_canonical_form_is_held_to_the_bound_on_frames() -> None:
    talk = Conversation(max_frame_bytes=2048)
    alice, bob = talk.meet("alice", "bob")
    numbers = parse_json("[" + "9e20," * 100 + "0]")

    letter = alice.sends(bob, numbers)
    [answer] = alice.answers()

    assert isinstance(answer, ErrorAnswer)
    assert (answer.code, answer.envelope_id) == ("too_large", letter.id)
    assert bob.hears() == []


def test_one_key_has_no_more_sessions_than_its_share() -> None:
    talk = Conversation(max_sessions=2)
    talk.meet("bob", "bob")

    third = talk.join("bob")

    assert [answer.code for answer in third.answers() if isinstance(answer, ErrorAnswer)] == [
        "at_capacity"
    ]
    assert third.close_code is CloseCode.TRY_AGAIN_LATER


def test_asking_for_all_peers_costs_as_much_as_telling_them_all() -> None:
    talk = Conversation(rate_limit_max_messages=10, broadcast_cost=10)
    alice, bob = talk.meet("alice", "bob")

    alice.sends(keys_of("relay").peer_id, {}, type="peer_list_request")
    alice.answers()
    alice.sends(bob, "one more")
    [answer] = alice.answers()

    assert isinstance(answer, ErrorAnswer)
    assert answer.code == "rate_limited"


# Slow readers


def test_a_slow_reader_is_closed_and_the_sender_is_told() -> None:
    talk = Conversation(max_unsent_bytes=2048)
    alice, bob = talk.meet("alice", "bob")
    bob.stops_reading()

    alice.sends(bob, "x" * 1000)
    alice.sends(bob, "y" * 1000)
    letter = alice.sends(bob, "too much")
    answers = alice.answers()
    bob.reads_on()

    assert bob.close_code is CloseCode.SLOW_CONSUMER
    assert answers[0] == PeerOffline(ListedPeer(bob.id))
    refusal = answers[1]
    assert isinstance(refusal, ErrorAnswer)
    assert (refusal.code, refusal.envelope_id) == ("unavailable", letter.id)


def test_what_a_slow_reader_could_not_take_can_be_sent_again_unchanged() -> None:
    talk = Conversation(max_unsent_bytes=2048)
    alice, bob = talk.meet("alice", "bob")
    bob.stops_reading()
    alice.sends(bob, "x" * 1000)
    alice.sends(bob, "y" * 1000)
    letter = alice.sends(bob, "too much")

    [bob_again] = talk.meet("bob")
    alice.submits(letter, bob_again)

    assert bob_again.hears() == ["alice: too much"]


def test_one_slow_session_does_not_keep_a_message_from_another() -> None:
    talk = Conversation(max_unsent_bytes=2048)
    alice, bob, bob_too = talk.meet("alice", "bob", "bob")
    bob.stops_reading()

    alice.sends(bob, "x" * 1000)
    alice.sends(bob, "y" * 1000)
    alice.sends(bob, "hi")

    assert bob_too.hears()[2:] == ["alice: hi"]
    assert alice.hears() == []


def test_a_slow_reader_keeps_its_mail() -> None:
    talk = Conversation(storage_peers=["carol"], max_unsent_bytes=2048)
    alice, carol = talk.meet("alice", "carol")
    carol.stops_reading()
    alice.sends(carol, "x" * 1000)
    alice.sends(carol, "y" * 1000)
    alice.sends(carol, "behind it")

    heard = talk.join("carol").hears()

    assert heard[0] == "registered with alice"
    assert heard[1:] == [f"alice: {'x' * 1000}", f"alice: {'y' * 1000}", "alice: behind it"]


def test_any_number_of_slow_readers_is_let_go_at_once() -> None:
    talk = Conversation(max_unsent_bytes=65_536, rate_limit_enabled=False)
    [alice] = talk.meet("alice")
    readers = [talk.join(f"reader {number}") for number in range(300)]
    for reader in readers:
        reader.stops_reading()

    alice.broadcasts("x" * 40_000)
    alice.broadcasts("y" * 40_000)
    alice.broadcasts("one more")

    for reader in readers:
        reader.reads_on()
    assert {reader.close_code for reader in readers} == {CloseCode.SLOW_CONSUMER}
    assert len(talk.node) == 1


def test_a_list_of_peers_longer_than_the_bound_makes_nobody_a_slow_reader() -> None:
    talk = Conversation(max_unsent_bytes=1024)
    talk.meet(*(f"peer {number}" for number in range(20)))
    newcomer = talk.join("newcomer")
    newcomer.stops_reading()

    talk.join("latecomer")

    newcomer.reads_on()
    assert newcomer.close_code is None


# The relay's own words


def test_the_relay_answers_who_asks_it_for_its_peers() -> None:
    talk = Conversation()
    alice, bob = talk.meet("alice", "bob")
    talk.clock.advance(5.0)

    request = alice.sends(
        keys_of("relay").peer_id, {"query": "list_peers"}, type="peer_list_request"
    )
    [delivery] = alice.answers()

    assert isinstance(delivery, Delivery)
    answer = open_envelope(delivery.envelope)
    assert (answer.sender, answer.in_reply_to) == (keys_of("relay").peer_id, request.id)
    assert answer.payload == {
        "peers": [{"publicKey": bob.id, "lastSeen": talk.clock.wall_ms() - 5000}],
        "totalPeers": 1,
        "relayPublicKey": keys_of("relay").peer_id,
    }


@pytest.mark.parametrize(
    ("filters", "names"),
    [
        ({}, ["bob", "carol"]),
        ({"limit": 1}, ["bob"]),
        ({"limit": 0}, ["bob", "carol"]),
        ({"limit": -1}, ["bob", "carol"]),
        ({"limit": "1"}, ["bob", "carol"]),
        ({"activeWithin": 3000}, ["carol"]),
        ({"activeWithin": 10_000, "limit": 1e308}, ["bob", "carol"]),
        (None, ["bob", "carol"]),
    ],
)
def test_the_list_of_peers_is_filtered_as_asked(filters: object, names: list[str]) -> None:
    talk = Conversation()
    alice, _, carol = talk.meet("alice", "bob", "carol")
    talk.clock.advance(5.0)
    carol.sends(alice, "active")
    alice.hears()

    alice.sends(
        keys_of("relay").peer_id,
        {"query": "list_peers", "filters": filters},  # type: ignore[dict-item]
        type="peer_list_request",
    )
    [delivery] = alice.answers()

    assert isinstance(delivery, Delivery)
    payload = open_envelope(delivery.envelope).payload
    assert isinstance(payload, dict)
    assert [peer["publicKey"] for peer in payload["peers"]] == [  # type: ignore[index, union-attr, call-overload]
        keys_of(name).peer_id for name in names
    ]


def test_the_relay_takes_no_other_messages_for_itself() -> None:
    [alice] = Conversation().meet("alice")

    alice.sends(keys_of("relay").peer_id, "hi")

    assert alice.hears() == ["error unknown_recipient"]
