"""How a mailbox flows to one session."""

from __future__ import annotations

import pytest

from agora.protocol.actions import Mail
from agora.protocol.feed import MailFeed
from agora.testing.conversation import keys_of

ALICE = keys_of("alice").peer_id


def mail(position: int, size: int = 10) -> Mail:
    return Mail("carol", ALICE, f"id {position}", "x" * size, position=position)


def test_a_pong_confirms_all_that_was_sent_before_its_ping() -> None:
    feed = MailFeed(max_messages=10, max_bytes=1000)
    marker = feed.send([mail(3), mail(5)])
    feed.send([mail(8)])

    assert feed.confirm(marker) == (3, 5)


def test_what_is_confirmed_once_is_not_confirmed_again() -> None:
    feed = MailFeed(max_messages=10, max_bytes=1000)
    marker = feed.send([mail(3)])
    feed.confirm(marker)

    assert feed.confirm(marker) == ()


def test_a_later_pong_confirms_what_an_earlier_one_left_out() -> None:
    feed = MailFeed(max_messages=10, max_bytes=1000)
    feed.send([mail(3)])
    marker = feed.send([mail(5)])

    assert feed.confirm(marker) == (3, 5)


@pytest.mark.parametrize("payload", [b"", b" 3", b"3 ", b"+3", b"-3", b"3.0", b"0x3", b"\xb3"])
def test_a_pong_that_answers_none_of_our_pings_confirms_nothing(payload: bytes) -> None:
    feed = MailFeed(max_messages=10, max_bytes=1000)
    feed.send([mail(3)])

    assert feed.confirm(payload) == ()


def test_the_cursor_is_behind_what_was_sent() -> None:
    feed = MailFeed(max_messages=10, max_bytes=1000)

    feed.send([mail(3), mail(5)])

    assert feed.cursor == 5


def test_what_is_in_flight_takes_room_until_it_is_confirmed() -> None:
    feed = MailFeed(max_messages=2, max_bytes=1000)
    marker = feed.send([mail(3, size=400), mail(5, size=100)])

    assert (feed.room_messages, feed.room_bytes, feed.has_room) == (0, 500, False)
    feed.confirm(marker)
    assert (feed.room_messages, feed.room_bytes, feed.has_room) == (2, 1000, True)


def test_bytes_alone_can_fill_the_window() -> None:
    feed = MailFeed(max_messages=10, max_bytes=100)

    feed.send([mail(3, size=100)])

    assert not feed.has_room
