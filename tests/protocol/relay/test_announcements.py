"""Who of the reference dialect hears of whose coming and going, and in how many writes."""

from __future__ import annotations

from agora.frames import PeerOffline, PeerOnline
from agora.protocol.relay.actions import Send, SendAll, SessionId
from agora.protocol.relay.announcements import FEW, Announcements
from agora.testing.conversation import Conversation, Speaker

S1, S2, S3 = SessionId("1"), SessionId("2"), SessionId("3")


def busy(*sessions: SessionId) -> Announcements:
    """Return announcements to so many that they are gathered; the last who listen are these."""
    announcements = Announcements(0.1)
    for number in range(FEW + 1):
        announcements.listen(SessionId(f"crowd {number}"))
    for session in sessions:
        announcements.listen(session)
    return announcements


def heard(told: list[SendAll], session: SessionId) -> list[str]:
    """Return what *session* is told."""
    return [text for one in told if session in one.to for text in one.texts]


# By themselves


def test_few_are_told_at_once() -> None:
    announcements = Announcements(0.1)
    announcements.listen(S1)
    announcements.listen(S2)

    assert announcements.announce("a", 0.0) == [Send((S1, S2), "a")]
    assert announcements.pulse(9.0) == []


def test_many_are_told_each_change_in_its_order_in_one_go() -> None:
    announcements = busy()

    assert [*announcements.announce("a", 1.0), *announcements.announce("b", 1.05)] == []
    assert announcements.pulse(1.09) == []
    [told] = announcements.pulse(1.1)
    assert told.texts == ("a", "b")
    assert len(told.to) == FEW + 1
    assert announcements.pulse(9.0) == []


def test_who_begins_to_listen_hears_of_what_comes_then() -> None:
    announcements = busy(S1)
    announcements.announce("a", 0.0)
    announcements.listen(S2)
    announcements.announce("b", 0.0)
    announcements.listen(S3)

    told = announcements.pulse(1.0)
    assert [heard(told, session) for session in (S1, S2, S3)] == [["a", "b"], ["b"], []]


def test_who_has_left_hears_nothing() -> None:
    announcements = busy(S1)
    announcements.announce("a", 0.0)

    announcements.leave(S1)
    announcements.leave(S1)  # once is enough, twice is harmless

    assert heard(announcements.pulse(1.0), S1) == []


def test_who_catches_up_hears_nothing_twice() -> None:
    announcements = busy(S1, S2)
    announcements.announce("a", 0.0)

    assert announcements.catch_up([S1, SessionId("stranger")]) == [SendAll((S1,), ("a",))]
    assert announcements.catch_up([S1]) == []
    announcements.announce("b", 0.0)
    told = announcements.pulse(1.0)
    assert [heard(told, S1), heard(told, S2)] == [["b"], ["a", "b"]]


def test_when_the_many_have_become_few_the_order_stays() -> None:
    announcements = busy(S1)
    announcements.announce("a", 0.0)
    for number in range(FEW + 1):
        announcements.leave(SessionId(f"crowd {number}"))

    assert announcements.announce("b", 0.0) == []
    assert heard(announcements.pulse(1.0), S1) == ["a", "b"]
    assert announcements.announce("c", 1.0) == [Send((S1,), "c")]


# In conversation


def crowd(talk: Conversation) -> list[Speaker]:
    """Return so many speakers of the reference dialect that changes are gathered for them."""
    return talk.meet(*(f"peer {number}" for number in range(FEW + 1)))


def test_in_a_crowd_each_change_is_a_frame_of_its_own_a_moment_later() -> None:
    talk = Conversation()
    first, *_ = crowd(talk)
    talk.pass_time(1.0)
    first.answers()

    bob = talk.join("bob")
    bob.leaves()
    talk.join("carol")

    assert first.answers() == []
    talk.pass_time(0.1)
    kinds = [type(answer) for answer in first.answers()]
    assert kinds == [PeerOnline, PeerOffline, PeerOnline]


def test_nobody_hears_from_a_peer_before_hearing_of_it() -> None:
    talk = Conversation()
    first, second, *_ = crowd(talk)
    talk.pass_time(0.1)
    first.answers(), second.answers()

    bob = talk.join("bob")
    bob.sends(first, "hi")
    assert first.hears() == ["bob is online", "bob: hi"]
    assert second.hears() == []
    bob.broadcasts("all")
    assert first.hears() == ["bob: all"]
    assert second.hears() == ["bob is online", "bob: all"]

    talk.pass_time(0.1)
    assert [first.hears(), second.hears()] == [[], []]
