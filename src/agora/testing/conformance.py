"""
The contract of a mailbox, as tests: whatever passes may stand behind a relay.

::

    class TestMyMailbox(MailboxContract):
        def new_mailbox(self, bounds: MailboxBounds) -> Mailbox:
            return MyMailbox(bounds)

Every test of :class:`MailboxContract` says one sentence of
:class:`agora.mailbox.base.Mailbox`. The same contract against a naive model, in
orders that nobody would think of, is :mod:`agora.testing.mailbox_model`. What a
crash leaves is for each technology to show by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from agora.keys import PeerId
from agora.mailbox import (
    AlreadyStoredError,
    DeadLetter,
    Mailbox,
    MailboxBounds,
    MailboxFullError,
    MailboxSummary,
    OutOfOrderError,
    Put,
    StoreTotals,
)
from agora.protocol.relay.actions import Mail

__all__ = ["MailboxContract"]

_ALICE, _BOB, _EVE = PeerId("alice"), PeerId("bob"), PeerId("eve")


def _mail(
    position: int,
    envelope_id: str | None = None,
    text: str = "{}",
    *,
    to: str = "carol",
    sender: PeerId = _ALICE,
    **members: Any,
) -> Mail:
    """Make mail whose id is its position unless told otherwise."""
    chosen = str(position) if envelope_id is None else envelope_id
    return Mail(to, sender, chosen, text, position=position, **members)


def _all(mailbox: Mailbox, recipient: str = "carol") -> tuple[Mail, ...]:
    """Return all that waits, in order."""
    return mailbox.page(recipient, after=0, max_messages=1_000, max_bytes=1_000_000).mail


def _positions(mailbox: Mailbox, recipient: str = "carol") -> list[int]:
    return [mail.position for mail in _all(mailbox, recipient)]


def _retained(mailbox: Mailbox, recipient: str = "carol", since_ms: int = 0) -> list[str]:
    """Return the ids of all that is retained, in order."""
    page = mailbox.retained(
        recipient, since_ms=since_ms, after=0, max_messages=1_000, max_bytes=1_000_000
    )
    return [mail.envelope_id for mail in page.mail]


def _refusal(mailbox: Mailbox, mail: Mail) -> tuple[str, str]:
    """Put *mail*, which is to be refused; return the scope and the message."""
    with pytest.raises(MailboxFullError) as caught:
        mailbox.put(mail, now_ms=0)
    return caught.value.scope, str(caught.value)


class MailboxContract:
    """Subclass it under a name that begins with ``Test``, and say how to make a mailbox."""

    def new_mailbox(self, bounds: MailboxBounds) -> Mailbox:
        """Return an empty mailbox with these bounds."""
        raise NotImplementedError

    @contextmanager
    def _mailbox(
        self, *positions: int, max_messages: int = 100, max_bytes: int = 10_000, **bounds: Any
    ) -> Iterator[Mailbox]:
        """Make a mailbox in which mail waits for carol, committed at moment 1,000."""
        mailbox = self.new_mailbox(
            MailboxBounds(max_messages=max_messages, max_bytes=max_bytes, **bounds)
        )
        try:
            for position in positions:
                mailbox.put(_mail(position), now_ms=1_000)
            mailbox.commit()
            yield mailbox
        finally:
            mailbox.close()

    # Putting and reading

    @pytest.mark.parametrize("name", ["Alice 👋", None])
    @pytest.mark.parametrize("confirm", [True, False])
    def test_mail_comes_back_as_it_was_put_with_the_moment(
        self, name: str | None, confirm: bool
    ) -> None:
        given = _mail(7, "id", '{"text":"grüße 👋 \\ud800"}', name=name, confirm=confirm)

        with self._mailbox() as mailbox:
            mailbox.put(given, now_ms=1_234)

            assert _all(mailbox) == (replace(given, stored_ms=1_234),)

    def test_mail_is_read_in_the_order_of_its_positions_however_it_came(self) -> None:
        with self._mailbox(5, 2, 9) as mailbox:
            mailbox.put(_mail(3), now_ms=0)

            assert _positions(mailbox) == [2, 3, 5, 9]

    def test_reading_takes_nothing_out(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            assert _positions(mailbox) == _positions(mailbox) == [1, 2]

    def test_everyone_reads_their_own_mail(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2, to="dave"), now_ms=0)

            assert (_positions(mailbox), _positions(mailbox, "dave")) == ([1], [2])
            assert _positions(mailbox, "eve") == []

    # Bounds

    def test_bounds_can_change_and_what_is_kept_beyond_them_stays(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.change_bounds(MailboxBounds(max_messages=2, max_bytes=10_000))
            full = _refusal(mailbox, _mail(3))
            mailbox.change_bounds(MailboxBounds(max_messages=1, max_bytes=10_000))

            assert full[0] == "mailbox"
            assert _positions(mailbox) == [1, 2]

    # The last position

    def test_the_last_position_is_the_highest_and_0_before_the_first(self) -> None:
        with self._mailbox() as mailbox:
            before = mailbox.last_position()
            for position in (4, 9, 2):
                mailbox.put(_mail(position, to=f"peer {position}"), now_ms=0)

            assert (before, mailbox.last_position()) == (0, 9)

    def test_the_last_position_outlives_its_mail(self) -> None:
        with self._mailbox(4, 9) as mailbox:
            mailbox.remove("carol", [4, 9])
            mailbox.commit()
            after_removal = mailbox.last_position()
            mailbox.put(_mail(5), now_ms=0)
            mailbox.bury("carol", [5], now_ms=0)
            mailbox.purge("carol")

            assert (after_removal, mailbox.last_position()) == (9, 9)

    # Pages

    def test_a_page_begins_behind_its_position(self) -> None:
        with self._mailbox(1, 2, 3) as mailbox:
            page = mailbox.page("carol", after=1, max_messages=9, max_bytes=10_000)

        assert [mail.position for mail in page.mail] == [2, 3]

    def test_a_page_holds_no_more_messages_than_asked_for_and_says_if_more_wait(self) -> None:
        with self._mailbox(1, 2, 3) as mailbox:
            part = mailbox.page("carol", after=0, max_messages=2, max_bytes=10_000)
            whole = mailbox.page("carol", after=0, max_messages=3, max_bytes=10_000)

        assert ([mail.position for mail in part.mail], part.is_last) == ([1, 2], False)
        assert (len(whole.mail), whole.is_last) == (3, True)

    def test_a_page_holds_no_more_bytes_than_asked_for(self) -> None:
        with self._mailbox() as mailbox:
            for position in (1, 2, 3):
                mailbox.put(_mail(position, text="é" * 10), now_ms=0)
            part = mailbox.page("carol", after=0, max_messages=9, max_bytes=59)
            whole = mailbox.page("carol", after=0, max_messages=9, max_bytes=60)

        assert (len(part.mail), part.is_last) == (2, False)
        assert (len(whole.mail), whole.is_last) == (3, True)

    def test_a_message_longer_than_a_page_comes_alone(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail(1, text="x" * 500), now_ms=0)
            mailbox.put(_mail(2), now_ms=0)
            page = mailbox.page("carol", after=0, max_messages=9, max_bytes=100)

        assert ([mail.position for mail in page.mail], page.is_last) == ([1], False)

    def test_only_an_empty_mailbox_has_an_empty_page(self) -> None:
        with self._mailbox() as mailbox:
            page = mailbox.page("carol", after=0, max_messages=9, max_bytes=100)

        assert (page.mail, page.is_last) == ((), True)

    # Removing and counting

    def test_what_is_removed_is_gone_and_the_rest_keeps_its_order(self) -> None:
        with self._mailbox(1, 2, 3, 4) as mailbox:
            mailbox.remove("carol", [3, 1])

            assert _positions(mailbox) == [2, 4]

    def test_positions_that_are_not_there_change_nothing(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.remove("carol", [2, 0, -1])
            mailbox.remove("dave", [1])

            assert _positions(mailbox) == [1]
            assert mailbox.count("carol") == (1, 2)

    def test_removing_twice_removes_once(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.remove("carol", [1, 1])
            mailbox.remove("carol", [1])

            assert mailbox.count("carol") == (1, 2)

    def test_mail_is_removed_by_id_of_any_sender(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.put(_mail(3, "1", sender=_BOB), now_ms=0)
            mailbox.remove_ids("carol", ["1", "1"])

            assert _positions(mailbox) == [2]
            assert mailbox.count("carol") == (1, 2)

    def test_who_sent_a_message_is_told_by_its_id(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.put(_mail(3, "1", sender=_BOB), now_ms=0)

            assert {*mailbox.senders_of("carol", ["1", "1", "3", ""])} == {
                (_ALICE, "1"),
                (_BOB, "1"),
            }
            assert mailbox.senders_of("dave", ["1"]) == ()

    def test_ids_that_are_not_there_remove_nothing(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2, ""), now_ms=0)
            mailbox.remove_ids("carol", ["3", ""])
            mailbox.remove_ids("dave", ["1"])

            assert _positions(mailbox) == [1, 2]

    def test_what_waits_is_counted_in_messages_and_in_bytes_of_utf_8(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail(1, text="é👋"), now_ms=0)
            mailbox.put(_mail(2, text="abc"), now_ms=0)

            assert mailbox.count("carol") == (2, 9)
            assert mailbox.count("dave") == (0, 0)

    # Bounds

    def test_a_mailbox_takes_no_more_messages_than_its_bound(self) -> None:
        with self._mailbox(1, 2, max_messages=2) as mailbox:
            refusal = _refusal(mailbox, _mail(3, sender=_BOB))

            assert refusal == ("mailbox", "mailbox holds 2 messages of at most 2")
            assert _positions(mailbox) == [1, 2]

    def test_a_mailbox_takes_no_more_bytes_than_its_bound(self) -> None:
        with self._mailbox(max_bytes=100) as mailbox:
            mailbox.put(_mail(1, text="x" * 60), now_ms=0)
            refusal = _refusal(mailbox, _mail(2, text="x" * 41))
            mailbox.put(_mail(3, text="x" * 40), now_ms=0)

            assert refusal == (
                "mailbox",
                "mailbox holds 60 bytes of at most 100: no room for 41 more",
            )
            assert mailbox.count("carol") == (2, 100)

    def test_one_full_mailbox_fills_no_other(self) -> None:
        with self._mailbox(1, max_messages=1) as mailbox:
            mailbox.put(_mail(2, to="dave"), now_ms=0)

            assert _positions(mailbox, "dave") == [2]

    def test_what_is_removed_makes_room(self) -> None:
        with self._mailbox(1, max_messages=1) as mailbox:
            mailbox.remove("carol", [1])
            mailbox.put(_mail(2), now_ms=0)

            assert _positions(mailbox) == [2]

    def test_what_is_owed_is_taken_by_a_full_mailbox(self) -> None:
        with self._mailbox(1, max_messages=1, store_bytes=4) as mailbox:
            mailbox.put(_mail(2, text="x" * 9), now_ms=0, is_owed=True)

            assert _positions(mailbox) == [1, 2]
            assert mailbox.count("carol") == (2, 11)

    # What one sender may hold

    def test_a_sender_takes_no_more_than_its_share_of_the_messages(self) -> None:
        with self._mailbox(1, 2, max_messages=8, sender_share=0.25) as mailbox:
            refusal = _refusal(mailbox, _mail(3))
            mailbox.put(_mail(4, sender=_BOB), now_ms=0)

            assert refusal == ("sender", "mailbox holds 2 messages of this sender, of at most 2")
            assert _positions(mailbox) == [1, 2, 4]

    def test_a_sender_takes_no_more_than_its_share_of_the_bytes(self) -> None:
        with self._mailbox(max_bytes=100, sender_share=0.5) as mailbox:
            mailbox.put(_mail(1, text="x" * 30), now_ms=0)
            refusal = _refusal(mailbox, _mail(2, text="x" * 21))
            mailbox.put(_mail(3, text="x" * 20), now_ms=0)

            assert refusal == (
                "sender",
                "mailbox holds 30 bytes of this sender, of at most 50: no room for 21 more",
            )
            assert mailbox.count("carol") == (2, 50)

    def test_one_message_of_every_sender_is_taken_however_small_its_share(self) -> None:
        with self._mailbox(max_messages=3, max_bytes=100, sender_share=0.01) as mailbox:
            mailbox.put(_mail(1, text="x" * 40), now_ms=0)
            mailbox.put(_mail(2, text="x" * 40, sender=_BOB), now_ms=0)

            assert _refusal(mailbox, _mail(3))[0] == "sender"
            assert _refusal(mailbox, _mail(4, text="x" * 40, sender=_EVE))[0] == "mailbox"

    def test_a_share_is_that_of_each_mailbox_by_itself(self) -> None:
        with self._mailbox(1, max_messages=2, sender_share=0.5) as mailbox:
            mailbox.put(_mail(2, to="dave"), now_ms=0)
            mailbox.remove_ids("carol", ["1"])
            mailbox.put(_mail(3), now_ms=0)

            assert (_positions(mailbox), _positions(mailbox, "dave")) == ([3], [2])

    # The store

    def test_the_store_takes_no_more_bytes_than_its_bound(self) -> None:
        with self._mailbox(store_bytes=100) as mailbox:
            mailbox.put(_mail(1, text="x" * 90), now_ms=0, is_owed=True)
            refusal = _refusal(mailbox, _mail(2, text="x" * 11, to="dave", sender=_BOB))
            mailbox.put(_mail(3, text="x" * 5, to="dave", sender=_BOB), now_ms=0)

            assert refusal == (
                "store",
                "store holds 90 bytes of at most 100: no room for 11 more",
            )
            assert mailbox.count("dave") == (1, 5)

    def test_no_sender_holds_more_of_the_store_than_what_is_still_free(self) -> None:
        with self._mailbox(store_bytes=100) as mailbox:
            mailbox.put(_mail(1, text="x" * 30), now_ms=0)
            mailbox.put(_mail(2, text="x" * 20, to="dave"), now_ms=0)
            refusal = _refusal(mailbox, _mail(3, text="x", to="eve"))
            mailbox.put(_mail(4, text="x" * 25, sender=_BOB), now_ms=0)

            assert refusal == (
                "sender",
                "store holds 50 bytes of this sender: with 1 more that would be more than "
                "the 49 that were still free",
            )
            assert mailbox.count("carol") == (2, 55)

    def test_what_leaves_the_store_makes_room_in_it(self) -> None:
        with self._mailbox(store_bytes=100) as mailbox:
            mailbox.put(_mail(1, text="x" * 50), now_ms=0)
            mailbox.bury("carol", [1], now_ms=0)
            mailbox.put(_mail(2, text="x" * 50, to="dave"), now_ms=0)
            mailbox.purge("dave")
            mailbox.put(_mail(3, text="x" * 50), now_ms=0)

            assert mailbox.count("carol") == (1, 50)

    # Repeats

    def test_the_same_envelope_waits_once(self) -> None:
        with self._mailbox(1) as mailbox:
            with pytest.raises(AlreadyStoredError):
                mailbox.put(_mail(2, "1"), now_ms=0)
            with pytest.raises(AlreadyStoredError):
                mailbox.put(_mail(3, "1"), now_ms=0, is_owed=True)

            assert mailbox.count("carol") == (1, 2)

    def test_a_repeat_is_told_as_one_also_by_a_full_mailbox(self) -> None:
        with self._mailbox(1, max_messages=1) as mailbox, pytest.raises(AlreadyStoredError):
            mailbox.put(_mail(2, "1"), now_ms=0)

    def test_one_id_of_two_senders_or_for_two_recipients_is_no_repeat(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2, "1", sender=_BOB), now_ms=0)
            mailbox.put(_mail(3, "1", to="dave"), now_ms=0)

            assert (_positions(mailbox), _positions(mailbox, "dave")) == ([1, 2], [3])

    def test_envelopes_without_an_id_are_never_repeats(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail(1, ""), now_ms=0)
            mailbox.put(_mail(2, ""), now_ms=0)

            assert _positions(mailbox) == [1, 2]

    def test_what_no_longer_waits_can_be_put_again(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.remove("carol", [1])
            mailbox.bury("carol", [2], now_ms=0)
            mailbox.put(_mail(3, "1"), now_ms=0)
            mailbox.put(_mail(4, "2"), now_ms=0)

            assert _positions(mailbox) == [3, 4]

    # What follows another

    def test_what_follows_mail_that_waits_is_taken(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2), now_ms=0, follows=1)
            mailbox.put(_mail(5, sender=_BOB), now_ms=0, follows=2)

            assert _positions(mailbox) == [1, 2, 5]

    @pytest.mark.parametrize("is_owed", [True, False])
    @pytest.mark.parametrize("follows", [1, 2, 3, 9, -1])
    def test_what_follows_mail_that_does_not_wait_for_its_recipient_is_refused(
        self, follows: int, is_owed: bool
    ) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.put(_mail(3, to="dave"), now_ms=0)
            mailbox.remove("carol", [1])
            mailbox.bury("carol", [2], now_ms=0)

            with pytest.raises(OutOfOrderError):
                mailbox.put(_mail(4), now_ms=0, is_owed=is_owed, follows=follows)

            assert (_positions(mailbox), mailbox.last_position()) == ([], 3)

    def test_a_repeat_is_told_as_one_also_when_what_it_follows_is_gone(self) -> None:
        with self._mailbox(1) as mailbox, pytest.raises(AlreadyStoredError):
            mailbox.put(_mail(3, "1"), now_ms=0, follows=2)

    def test_what_is_out_of_order_is_told_as_that_also_by_a_full_mailbox(self) -> None:
        with self._mailbox(1, max_messages=1) as mailbox, pytest.raises(OutOfOrderError):
            mailbox.put(_mail(3), now_ms=0, follows=2)

    # Many at once

    def test_many_are_put_in_turn_and_each_has_its_own_answer(self) -> None:
        puts = [
            Put(_mail(2, name="Alice 👋"), 1),
            Put(_mail(3, "2"), 2),
            Put(_mail(4, sender=_BOB), 2, follows=2),
            Put(_mail(5, text="x" * 90, sender=_BOB), 3),
            Put(_mail(6, "5", text="x" * 90, sender=_BOB), 3, is_owed=True),
            Put(_mail(7), 4, follows=5),
            Put(_mail(8, to="dave"), 4, follows=4),
            Put(_mail(9, "1"), 5, is_owed=True, follows=5),
        ]

        with self._mailbox(1, max_bytes=90) as mailbox:
            refusals = mailbox.put_many(puts)

            assert [type(refusal) for refusal in refusals] == [
                type(None),
                AlreadyStoredError,
                type(None),
                MailboxFullError,
                type(None),
                OutOfOrderError,
                OutOfOrderError,
                AlreadyStoredError,
            ]
            assert [(mail.position, mail.stored_ms) for mail in _all(mailbox)] == [
                (1, 1_000),
                (2, 1),
                (4, 2),
                (6, 3),
            ]
            assert mailbox.count("carol") == (4, 96)
            assert mailbox.last_position() == 6

    def test_a_bound_counts_what_is_put_beside(self) -> None:
        puts = [Put(_mail(position), 0) for position in range(1, 6)]

        with self._mailbox(max_messages=3) as mailbox:
            refusals = mailbox.put_many(puts)

            assert [str(refusal) for refusal in refusals] == ["None"] * 3 + [
                "mailbox holds 3 messages of at most 3"
            ] * 2

    def test_putting_none_is_harmless(self) -> None:
        with self._mailbox(1) as mailbox:
            assert mailbox.put_many([]) == []

    def test_what_was_put_at_once_can_be_undone(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put_many([Put(_mail(2), 0), Put(_mail(3), 0)])
            mailbox.rollback()
            mailbox.put_many([Put(_mail(4), 0)])

            assert (_positions(mailbox), mailbox.count("carol")) == ([1, 4], (2, 4))

    # Nacks

    def test_nacks_are_counted_and_mail_that_has_them_all_is_returned_and_waits(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            first = mailbox.nack("carol", ["1", "2"], max_nacks=2)
            second = mailbox.nack("carol", ["2"], max_nacks=2)
            third = mailbox.nack("carol", ["2", "1"], max_nacks=2)

            assert first == ()
            assert second == (_mail(2, stored_ms=1_000),)
            assert third == (_mail(1, stored_ms=1_000), _mail(2, stored_ms=1_000))
            assert _positions(mailbox) == [1, 2]

    def test_one_call_counts_one_nack_for_a_message_of_any_sender(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2, "1", sender=_BOB), now_ms=0)
            once = mailbox.nack("carol", ["1", "1"], max_nacks=2)
            twice = mailbox.nack("carol", ["1"], max_nacks=2)

            assert once == ()
            assert [mail.position for mail in twice] == [1, 2]

    def test_ids_that_are_not_there_are_not_nacked(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2, ""), now_ms=0)

            assert mailbox.nack("carol", ["3", ""], max_nacks=1) == ()
            assert mailbox.nack("dave", ["1"], max_nacks=1) == ()

    # Dead letters

    def test_a_dead_letter_is_the_mail_its_nacks_and_when_it_died(self) -> None:
        given = _mail(7, "id", "{…}", name="Alice", confirm=True)

        with self._mailbox() as mailbox:
            mailbox.put(given, now_ms=1_000)
            mailbox.nack("carol", ["id"], max_nacks=9)
            mailbox.bury("carol", [7], now_ms=2_000)

            assert mailbox.dead_letters() == (
                DeadLetter(replace(given, stored_ms=1_000), nacks=1, died_ms=2_000),
            )
            assert (_all(mailbox), mailbox.count("carol")) == ((), (0, 0))

    def test_only_mail_that_waits_for_its_recipient_is_buried(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.bury("carol", [2, 0], now_ms=0)
            mailbox.bury("dave", [1], now_ms=0)
            mailbox.bury("carol", [1, 1], now_ms=0)

            assert len(mailbox.dead_letters()) == 1

    def test_dead_letters_are_listed_by_the_moment_of_death_of_one_or_of_all(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.put(_mail(3, to="dave"), now_ms=0)
            mailbox.bury("carol", [2], now_ms=10)
            mailbox.bury("dave", [3], now_ms=20)
            mailbox.bury("carol", [1], now_ms=30)

            assert [dead.mail.position for dead in mailbox.dead_letters()] == [2, 3, 1]
            assert [dead.mail.position for dead in mailbox.dead_letters("carol")] == [2, 1]

    def test_of_too_many_dead_letters_the_oldest_are_forgotten(self) -> None:
        with self._mailbox(1, 2, 3, max_dead_letters=2) as mailbox:
            for position, died_ms in [(1, 20), (2, 10), (3, 30)]:
                mailbox.bury("carol", [position], now_ms=died_ms)

            assert [letter.mail.position for letter in mailbox.dead_letters()] == [1, 3]

    def test_dead_letters_that_died_before_a_moment_are_forgotten(self) -> None:
        with self._mailbox(1, 2, 3) as mailbox:
            for position in (1, 2, 3):
                mailbox.bury("carol", [position], now_ms=10 * position)

            assert mailbox.forget_dead_letters(before_ms=30) == 2
            assert [dead.mail.position for dead in mailbox.dead_letters()] == [3]

    # Age

    def test_mail_that_was_stored_before_a_moment_is_told_the_oldest_first_and_waits(self) -> None:
        with self._mailbox() as mailbox:
            for position, to, now_ms in [(1, "carol", 12), (3, "dave", 11), (2, "carol", 11)]:
                mailbox.put(_mail(position, to=to), now_ms=now_ms)
            mailbox.put(_mail(4), now_ms=13)

            found = mailbox.expired(before_ms=13, max_messages=10)
            part = mailbox.expired(before_ms=13, max_messages=2)

            assert [mail.position for mail in found] == [2, 3, 1]
            assert [mail.stored_ms for mail in found] == [11, 11, 12]
            assert part == found[:2]
            assert (_positions(mailbox), _positions(mailbox, "dave")) == ([1, 2, 4], [3])

    def test_what_was_removed_does_not_expire(self) -> None:
        with self._mailbox(1, 2, 3) as mailbox:
            mailbox.remove("carol", [1, 2])

            expired = mailbox.expired(before_ms=2_000, max_messages=10)
            assert [mail.position for mail in expired] == [3]
            assert mailbox.expired(before_ms=1_000, max_messages=10) == ()

    # Pins

    def test_a_pin_is_kept_once(self) -> None:
        with self._mailbox() as mailbox:
            for peer in (_BOB, _ALICE, _BOB):
                mailbox.pin(peer, now_ms=0)

            assert mailbox.pins() == (_ALICE, _BOB)

    def test_unpinning_tells_whether_there_was_a_pin(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.pin(_ALICE, now_ms=0)

            assert (mailbox.unpin(_ALICE), mailbox.unpin(_ALICE)) == (True, False)
            assert mailbox.pins() == ()

    # What was acked, and is kept all the same

    def test_what_is_removed_is_retained_only_where_that_is_asked_for(self) -> None:
        with self._mailbox(1, 2, 3, 4) as mailbox:
            mailbox.remove("carol", [1])
            mailbox.remove_ids("carol", ["2"])
            mailbox.remove("carol", [3], acked_ms=10)
            mailbox.remove_ids("carol", ["4"], acked_ms=10)

            assert _retained(mailbox) == ["3", "4"]
            assert _positions(mailbox) == []

    def test_what_is_retained_is_as_it_was_put_with_a_place_and_the_moment_of_its_ack(self) -> None:
        mail = _mail(7, "id", '{"text":"grüße \\ud800"}', name="Alice 👋", confirm=True)
        with self._mailbox() as mailbox:
            mailbox.put(mail, now_ms=5)
            mailbox.remove("carol", [7], acked_ms=10)
            mailbox.retain([_mail(8, "live")], acked_ms=20)
            page = mailbox.retained("carol", since_ms=0, after=0, max_messages=9, max_bytes=10_000)

            first, second = page.mail
            assert first == replace(mail, position=first.position, stored_ms=10)
            assert (second.envelope_id, second.stored_ms) == ("live", 20)
            assert 0 < first.position < second.position

    def test_what_is_retained_waits_for_nobody_and_takes_no_room(self) -> None:
        with self._mailbox(1, max_messages=1, max_bytes=2, store_bytes=6) as mailbox:
            mailbox.remove("carol", [1], acked_ms=0)
            mailbox.put(_mail(2), now_ms=0)

            assert (_positions(mailbox), mailbox.count("carol")) == ([2], (1, 2))
            assert mailbox.expired(before_ms=2_000, max_messages=9)[0].position == 2

    def test_everyone_has_retained_what_was_theirs(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(1), _mail(2, to="dave")], acked_ms=0)

            assert (_retained(mailbox), _retained(mailbox, "dave")) == (["1"], ["2"])
            assert _retained(mailbox, "eve") == []

    def test_a_moment_is_where_to_begin_and_is_in_it(self) -> None:
        with self._mailbox() as mailbox:
            for moment in (10, 20, 30):
                mailbox.retain([_mail(moment)], acked_ms=moment)

            assert _retained(mailbox, since_ms=20) == ["20", "30"]
            assert _retained(mailbox, since_ms=31) == []

    def test_pages_behind_each_other_lose_nothing_of_one_moment(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(number) for number in range(1, 6)], acked_ms=10)
            found, after, is_last = [], 0, False
            while not is_last:
                page = mailbox.retained(
                    "carol", since_ms=10, after=after, max_messages=2, max_bytes=10_000
                )
                found += [mail.envelope_id for mail in page.mail]
                after, is_last = page.mail[-1].position, page.is_last

            assert found == ["1", "2", "3", "4", "5"]

    def test_a_page_of_what_is_retained_holds_no_more_bytes_than_asked_for(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(1, text="x" * 9), _mail(2), _mail(3)], acked_ms=0)
            page = mailbox.retained("carol", since_ms=0, after=0, max_messages=9, max_bytes=5)

            assert ([mail.envelope_id for mail in page.mail], page.is_last) == (["1"], False)

    def test_what_was_acked_later_comes_later_also_when_the_clock_was_set_back(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(1)], acked_ms=1_000)
            mailbox.retain([_mail(2)], acked_ms=10)

            assert _retained(mailbox, since_ms=500) == ["1", "2"]

    def test_what_was_acked_in_a_future_that_was_none_counts_as_acked_now(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(1)], acked_ms=10)
            mailbox.retain([_mail(2)], acked_ms=10**12)
            mailbox.forget_retained(before_ms=0, now_ms=20, max_messages=9)
            mailbox.retain([_mail(3)], acked_ms=30)

            assert _retained(mailbox, since_ms=20) == ["2", "3"]
            assert _retained(mailbox, since_ms=21) == ["3"]

    def test_an_envelope_is_retained_once_and_one_without_an_id_each_time(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(1, "a"), _mail(2, "a"), _mail(3, "")], acked_ms=0)
            mailbox.retain([_mail(4, "a"), _mail(5, "a", sender=_BOB), _mail(6, "")], acked_ms=0)

            assert _retained(mailbox) == ["a", "", "a", ""]

    def test_what_is_retained_is_known_when_it_is_put_again(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.remove_ids("carol", ["1"], acked_ms=0)
            with pytest.raises(AlreadyStoredError):
                mailbox.put(_mail(3, "1"), now_ms=0)
            mailbox.put(_mail(4, "1", sender=_BOB), now_ms=0)
            mailbox.put(_mail(5, "1", to="dave"), now_ms=0)

            assert _positions(mailbox) == [2, 4]

    def test_of_too_many_retained_messages_of_one_recipient_the_oldest_are_forgotten(self) -> None:
        with self._mailbox(retain_messages=2) as mailbox:
            mailbox.retain([_mail(1), _mail(9, to="dave"), _mail(2), _mail(3)], acked_ms=0)

            assert (_retained(mailbox), _retained(mailbox, "dave")) == (["2", "3"], ["9"])

    def test_of_too_many_retained_bytes_of_one_recipient_the_oldest_are_forgotten(self) -> None:
        with self._mailbox(retain_bytes=10) as mailbox:
            mailbox.retain([_mail(1), _mail(2)], acked_ms=0)
            mailbox.retain([_mail(3, text="x" * 8)], acked_ms=0)
            kept = _retained(mailbox)
            mailbox.retain([_mail(4, text="x" * 11)], acked_ms=0)

            assert (kept, _retained(mailbox)) == (["2", "3"], [])

    def test_of_too_much_retained_all_in_all_the_oldest_is_forgotten_whosever_it_is(self) -> None:
        with self._mailbox(retain_store_bytes=4) as mailbox:
            mailbox.retain([_mail(1), _mail(2, to="dave"), _mail(3)], acked_ms=0)

            assert (_retained(mailbox), _retained(mailbox, "dave")) == (["3"], ["2"])
            assert mailbox.totals(largest=0).retained_bytes == 4

    def test_what_was_acked_before_a_moment_is_forgotten_so_many_at_a_time(self) -> None:
        with self._mailbox() as mailbox:
            for moment in (10, 20, 30, 40):
                mailbox.retain([_mail(moment)], acked_ms=moment)
            forget = partial(mailbox.forget_retained, before_ms=40, now_ms=50, max_messages=2)

            assert [forget(), forget(), forget()] == [2, 1, 0]
            assert _retained(mailbox) == ["40"]

    def test_an_operator_sees_what_is_retained_and_purges_it(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.retain([_mail(1), _mail(2, to="dave", text="xyz")], acked_ms=0)
            before = mailbox.totals(largest=1), mailbox.summaries()

            assert mailbox.purge("carol", dead_letters_only=True) == 0
            assert mailbox.purge("carol") == 1
            assert (_retained(mailbox), _retained(mailbox, "dave")) == ([], ["2"])
        assert before == (
            StoreTotals(retained=2, retained_bytes=5),
            (MailboxSummary("carol", 0, 0, 0, 0, 1), MailboxSummary("dave", 0, 0, 0, 0, 1)),
        )

    def test_what_was_retained_or_forgotten_can_be_undone(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.remove("carol", [1], acked_ms=0)
            mailbox.rollback()
            nothing = _retained(mailbox)
            mailbox.remove("carol", [1], acked_ms=0)
            mailbox.commit()
            mailbox.remove("carol", [2], acked_ms=0)
            mailbox.forget_retained(before_ms=9, now_ms=9, max_messages=1)
            mailbox.purge("carol")
            mailbox.rollback()

            assert (nothing, _retained(mailbox), _positions(mailbox)) == ([], ["1"], [2])
            assert mailbox.totals(largest=0).retained == 1

    # For the operator

    def test_there_is_a_summary_of_everyone_who_has_mail_or_dead_letters(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.put(_mail(3, text="xyz", to="dave"), now_ms=500)
            mailbox.put(_mail(4, text="xyz", to="dave"), now_ms=400)
            mailbox.bury("carol", [1, 2], now_ms=0)
            mailbox.bury("dave", [4], now_ms=0)
            mailbox.put(_mail(5, to="eve"), now_ms=0)
            mailbox.remove("eve", [5])

            assert mailbox.summaries() == (
                MailboxSummary("carol", 0, 0, 0, 2),
                MailboxSummary("dave", 1, 3, 500, 1),
            )

    def test_the_totals_are_of_all_mailboxes_and_show_the_largest(self) -> None:
        with self._mailbox() as mailbox:
            assert mailbox.totals(largest=9) == StoreTotals()

            mailbox.put(_mail(1, text="x", to="carol"), now_ms=500)
            mailbox.put(_mail(2, text="xyz", to="dave"), now_ms=400)
            mailbox.put(_mail(3, text="x", to="eve"), now_ms=300)
            mailbox.bury("eve", [3], now_ms=0)

            largest = MailboxSummary("dave", 1, 3, 400, 0)
            assert mailbox.totals(largest=1) == StoreTotals(2, 2, 4, 400, 1, (largest,))

    def test_a_commit_tells_whether_there_was_anything_to_keep(self) -> None:
        with self._mailbox() as mailbox:
            assert not mailbox.commit()

            mailbox.put(_mail(1), now_ms=0)
            assert mailbox.commit()
            assert not mailbox.commit()

    def test_a_touch_changes_nothing(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.touch()
            mailbox.commit()

            assert (_positions(mailbox), mailbox.has_changed()) == ([1], False)

    def test_purging_removes_the_mail_and_dead_letters_of_one_recipient(self) -> None:
        with self._mailbox(1, 2, 3) as mailbox:
            mailbox.put(_mail(4, to="dave"), now_ms=0)
            mailbox.bury("carol", [1], now_ms=0)

            assert mailbox.purge("carol") == 3
            assert [summary.recipient for summary in mailbox.summaries()] == ["dave"]
            assert mailbox.count("carol") == (0, 0)
            assert mailbox.purge("carol") == 0

    def test_purging_dead_letters_only_leaves_the_mail(self) -> None:
        with self._mailbox(1, 2) as mailbox:
            mailbox.bury("carol", [1], now_ms=0)

            assert mailbox.purge("carol", dead_letters_only=True) == 1
            assert (_positions(mailbox), mailbox.dead_letters()) == ([2], ())

    def test_what_one_changes_oneself_is_no_change_by_another(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2), now_ms=0)
            mailbox.commit()

            assert not mailbox.has_changed()

    # Committing

    def test_changes_are_seen_before_they_are_committed(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail(1), now_ms=0)
            mailbox.pin(_ALICE, now_ms=0)

            assert (_positions(mailbox), mailbox.pins()) == ([1], (_ALICE,))

    def test_what_was_not_committed_can_be_undone(self) -> None:
        with self._mailbox(1, 2, 3, 4) as mailbox:
            mailbox.pin(_ALICE, now_ms=0)
            mailbox.bury("carol", [4], now_ms=0)
            mailbox.commit()
            mailbox.put(_mail(5), now_ms=1_000)
            mailbox.nack("carol", ["2", "5"], max_nacks=9)
            mailbox.remove("carol", [1])
            mailbox.bury("carol", [2], now_ms=0)
            mailbox.forget_dead_letters(before_ms=1_000)
            mailbox.unpin(_ALICE)
            mailbox.pin(_BOB, now_ms=0)
            mailbox.purge("carol")

            mailbox.rollback()

            assert _positions(mailbox) == [1, 2, 3]
            assert (mailbox.count("carol"), mailbox.last_position()) == ((3, 6), 4)
            assert [dead.mail.position for dead in mailbox.dead_letters()] == [4]
            assert mailbox.pins() == (_ALICE,)
            assert mailbox.nack("carol", ["2"], max_nacks=2) == ()
            assert len(mailbox.expired(before_ms=2_000, max_messages=10)) == 3

    def test_what_was_committed_cannot_be_undone(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.put(_mail(2), now_ms=0)
            mailbox.commit()

            mailbox.rollback()

            assert _positions(mailbox) == [1, 2]

    def test_a_refused_message_undoes_none_before_it(self) -> None:
        with self._mailbox(max_messages=1) as mailbox:
            mailbox.put(_mail(1), now_ms=0)
            with pytest.raises(MailboxFullError):
                mailbox.put(_mail(2), now_ms=0)
            with pytest.raises(AlreadyStoredError):
                mailbox.put(_mail(3, "1"), now_ms=0)
            mailbox.commit()

            assert _positions(mailbox) == [1]

    def test_committing_or_undoing_nothing_is_harmless(self) -> None:
        with self._mailbox(1) as mailbox:
            mailbox.commit()
            mailbox.rollback()
            mailbox.commit()

            assert _positions(mailbox) == [1]
