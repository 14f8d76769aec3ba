"""What is kept of what needs no ack: by a postbox, for those who read it."""

from __future__ import annotations

from agora.frames import WATCH_ALL
from agora.keys import KeyPair
from agora.relay.http.backlog import Backlog, Told
from agora.relay.http.postbox import Postbox

PRESENCE = '{"type":"presence","online":[],"offline":[]}'


def test_what_is_over_the_bound_is_forgotten_from_the_oldest_on() -> None:
    backlog = Backlog(max_bytes=10)
    for number in range(1, 5):
        backlog.keep(number, "12345")
    backlog.forget(up_to=4)

    assert backlog.after(0) == [Told(3, "12345"), Told(4, "12345")]
    assert backlog.forgotten == 2


def test_nothing_is_forgotten_that_somebody_has_still_to_read() -> None:
    backlog = Backlog(max_bytes=10)
    for number in range(1, 5):
        backlog.keep(number, "12345")
    backlog.forget(up_to=1)

    assert [told.number for told in backlog.after(0)] == [2, 3, 4]


def test_what_comes_late_has_its_place_in_the_order() -> None:
    backlog = Backlog(max_bytes=10)
    for number in (1, 3, 2):
        backlog.keep(number, "")

    assert [told.number for told in backlog.after(1)] == [2, 3]


def test_what_comes_late_does_not_bring_back_what_was_forgotten() -> None:
    backlog = Backlog(max_bytes=5)
    for number in (2, 3):
        backlog.keep(number, "12345")
    backlog.forget(up_to=3)
    backlog.keep(1, "12345")
    backlog.forget(up_to=3)

    assert backlog.after(0) == [Told(3, "12345")]
    assert backlog.forgotten == 2


def test_what_several_have_still_to_read_is_unsent_once() -> None:
    postbox = Postbox(KeyPair.generate().peer_id, lambda postbox, payload: None)
    one, other = (postbox.reader(WATCH_ALL, after=None) for _ in range(2))
    with postbox.reading(one), postbox.reading(other):
        postbox.tell(PRESENCE)
        assert postbox.unsent_bytes == len(PRESENCE)

        assert postbox.take(one, at_most=1_000) == [Told(1, PRESENCE)]
        assert postbox.unsent_bytes == len(PRESENCE)
        postbox.take(other, at_most=1_000)

    assert postbox.unsent_bytes == 0


def test_who_goes_on_further_back_takes_nothing_from_what_was_told_to_others() -> None:
    peer = KeyPair.generate().peer_id
    postbox = Postbox(peer, lambda postbox, payload: None, backlog_bytes=1_000)
    postbox.send(broadcast("for all"))
    postbox.tell(PRESENCE)
    postbox.take(postbox.reader(WATCH_ALL, after=1), at_most=1_000)
    [first] = postbox.take(postbox.reader(WATCH_ALL, after=0), at_most=0)

    assert first == Told(1, broadcast("for all"))
    assert postbox.take(postbox.reader(WATCH_ALL, after=None), at_most=1_000) == []


def test_a_ping_is_answered_when_all_before_it_was_given_and_acked() -> None:
    peer, answered = KeyPair.generate().peer_id, list[bytes]()
    postbox = Postbox(peer, lambda postbox, payload: answered.append(payload))
    postbox.send(f'{{"type":"message","envelope":{{"id":"mail","to":["{peer}"]}}}}')
    postbox.send(broadcast("for all"))
    postbox.ping(b"2")
    postbox.give(postbox.letters())
    before = list(answered)
    postbox.settle(["mail"])

    assert (before, answered) == ([], [b"2"])


def broadcast(envelope_id: str) -> str:
    """Return the frame that brings a message which nobody acks."""
    return f'{{"type":"message","envelope":{{"id":"{envelope_id}","to":["*"]}}}}'
