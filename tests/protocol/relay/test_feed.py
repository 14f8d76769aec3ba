"""How mail flows to one session."""

from __future__ import annotations

import pytest

from agora.protocol.relay.actions import Mail, SessionId
from agora.protocol.relay.feed import MailFeed
from agora.testing.conversation import keys_of

ALICE = keys_of("alice").peer_id


def new_feed(*, can_ack: bool = False, max_messages: int = 10, max_bytes: int = 1000) -> MailFeed:
    return MailFeed(SessionId("s"), can_ack=can_ack, max_messages=max_messages, max_bytes=max_bytes)


def mail(position: int, size: int = 10, *, envelope_id: str | None = None) -> Mail:
    known_id = f"id {position}" if envelope_id is None else envelope_id
    return Mail("carol", ALICE, known_id, "x" * size, position=position)


def send(feed: MailFeed, *mails: Mail) -> None:
    for one in mails:
        feed.send(one)


def confirmed(feed: MailFeed, payload: bytes) -> list[int]:
    return [entry.position for entry in feed.confirm(payload)]


# Pongs


def test_a_pong_confirms_all_that_was_sent_before_its_ping() -> None:
    feed = new_feed()
    send(feed, mail(3), mail(5), mail(8))

    assert confirmed(feed, b"5") == [3, 5]


def test_what_is_confirmed_once_is_not_confirmed_again() -> None:
    feed = new_feed()
    send(feed, mail(3))
    feed.confirm(b"3")

    assert confirmed(feed, b"3") == []


@pytest.mark.parametrize("payload", [b"", b" 3", b"3 ", b"+3", b"-3", b"3.0", b"0x3", b"\xb3"])
def test_a_pong_that_answers_none_of_our_pings_confirms_nothing(payload: bytes) -> None:
    feed = new_feed()
    send(feed, mail(3))

    assert confirmed(feed, payload) == []


def test_a_pong_does_not_confirm_what_can_be_acked() -> None:
    feed = new_feed(can_ack=True)
    send(feed, mail(3), mail(5, envelope_id=""))

    assert confirmed(feed, b"9") == [5]
    assert feed.has("id 3")


# Acks


def test_what_is_released_is_not_in_flight_any_more() -> None:
    feed = new_feed(can_ack=True)
    send(feed, mail(3), mail(5))

    entry = feed.release("id 3")

    assert entry is not None
    assert (entry.position, entry.sender) == (3, ALICE)
    assert (feed.has_in_flight(3), feed.has_in_flight(5)) == (False, True)


def test_what_is_not_in_flight_cannot_be_released() -> None:
    feed = new_feed(can_ack=True)
    send(feed, mail(3))
    feed.release("id 3")

    assert feed.release("id 3") is None
    assert feed.release("") is None


# The window


def test_what_is_in_flight_takes_room_until_it_is_settled() -> None:
    feed = new_feed(max_messages=2)
    send(feed, mail(3, size=400), mail(5, size=100))

    assert (feed.room_messages, feed.room_bytes, feed.has_room) == (0, 500, False)
    feed.release("id 3")
    feed.confirm(b"5")
    assert (feed.room_messages, feed.room_bytes, feed.has_room) == (2, 1000, True)


def test_bytes_alone_can_fill_the_window() -> None:
    feed = new_feed(max_bytes=100)

    send(feed, mail(3, size=100))

    assert not feed.has_room


# Reading on


def test_a_new_feed_has_to_read_first() -> None:
    feed = new_feed(can_ack=True)

    assert feed.wants_page
    assert not feed.takes_live


def test_a_feed_that_is_caught_up_takes_what_is_live_and_reads_nothing() -> None:
    feed = new_feed(can_ack=True)

    feed.is_caught_up = True

    assert feed.takes_live
    assert not feed.wants_page


def test_what_cannot_be_acked_is_never_sent_live() -> None:
    feed = new_feed(can_ack=False)

    feed.is_caught_up = True

    assert not feed.takes_live


def test_a_feed_reads_one_page_at_a_time_and_none_without_room() -> None:
    feed = new_feed(max_messages=1)

    feed.is_fetching = True
    assert not feed.wants_page

    feed.is_fetching = False
    send(feed, mail(3))
    assert not feed.wants_page


def test_whoever_misses_something_has_to_read_again() -> None:
    feed = new_feed(can_ack=True)
    feed.is_caught_up = True

    feed.miss()

    assert feed.wants_page


def test_what_is_missed_while_a_page_is_on_its_way_is_news_behind_it() -> None:
    feed = new_feed(can_ack=True)
    feed.is_fetching = True

    feed.miss()

    assert feed.has_news


# Put off


def put_off(feed: MailFeed, position: int, until: float) -> None:
    """Have *feed* send a message and put it off."""
    feed.send(mail(position))
    entry = feed.release(f"id {position}")
    assert entry is not None
    feed.postpone(entry, until)


def test_what_was_put_off_comes_again_when_it_is_time() -> None:
    feed = new_feed(can_ack=True)
    feed.cursor, feed.is_caught_up = 9, True
    put_off(feed, 5, 10.0)

    assert not feed.resume(9.9)
    assert feed.resume(10.0)
    assert (feed.cursor, feed.wants_page) == (4, True)


def test_what_was_put_off_waits_for_the_page_that_is_on_its_way() -> None:
    feed = new_feed(can_ack=True)
    feed.cursor, feed.is_fetching = 9, True
    put_off(feed, 5, 10.0)

    assert not feed.resume(10.0)
    assert 5 in feed.postponed


def test_what_was_put_off_is_known_until_it_is_settled() -> None:
    feed = new_feed(can_ack=True)
    put_off(feed, 5, 10.0)

    assert feed.has("id 5")
    feed.drop("id 5")
    assert not feed.has("id 5")
    assert not feed.resume(10.0)


def test_who_puts_off_a_whole_window_gets_nothing_live() -> None:
    feed = new_feed(can_ack=True, max_messages=2)
    feed.is_caught_up = True
    put_off(feed, 3, 10.0)

    assert feed.takes_live
    put_off(feed, 5, 10.0)
    assert not feed.takes_live
