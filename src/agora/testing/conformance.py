"""
The contract of a mailbox, as tests: whatever passes may stand behind a relay.

::

    class TestMyMailbox(MailboxContract):
        def new_mailbox(self, *, max_messages: int, max_bytes: int) -> Mailbox:
            return MyMailbox(max_messages=max_messages, max_bytes=max_bytes)

Every test of :class:`MailboxContract` says one sentence of
:class:`agora.mailbox.base.Mailbox`. What a crash leaves is for each technology
to show by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agora.mailbox import AlreadyStoredError, Mailbox, MailboxFullError
from agora.protocol.actions import Mail
from agora.testing.conversation import keys_of

__all__ = ["MailboxContract"]

_ALICE, _BOB = keys_of("alice").peer_id, keys_of("bob").peer_id


def _mail(envelope_id: str, text: str = "{}", *, to: str = "carol", **members: str | None) -> Mail:
    return Mail(to, _ALICE, envelope_id, text, **members)  # type: ignore[arg-type]


def _ids(mailbox: Mailbox, recipient: str = "carol") -> list[str]:
    """Return the ids of all that waits, in order."""
    page = mailbox.page(recipient, after=0, max_messages=1_000, max_bytes=1_000_000)
    return [mail.envelope_id for mail in page.mail]


class MailboxContract:
    """Subclass it under a name that begins with ``Test``, and say how to make a mailbox."""

    def new_mailbox(self, *, max_messages: int, max_bytes: int) -> Mailbox:
        """Return an empty mailbox with these bounds."""
        raise NotImplementedError

    @contextmanager
    def _mailbox(
        self, *ids: str, max_messages: int = 100, max_bytes: int = 10_000
    ) -> Iterator[Mailbox]:
        """Make a mailbox in which mail of *ids* waits for carol, committed at moment 1,000."""
        mailbox = self.new_mailbox(max_messages=max_messages, max_bytes=max_bytes)
        try:
            for envelope_id in ids:
                mailbox.put(_mail(envelope_id), now_ms=1_000)
            mailbox.commit()
            yield mailbox
        finally:
            mailbox.close()

    # Putting and reading

    def test_mail_comes_back_as_it_was_put_with_its_position(self) -> None:
        given = _mail("1", '{"text":"grüße 👋 \\ud800"}', name="Alice 👋")

        with self._mailbox() as mailbox:
            stored = mailbox.put(given, now_ms=0)
            page = mailbox.page("carol", after=0, max_messages=10, max_bytes=10_000)

        assert page.mail == (stored,)
        assert stored.position > 0
        assert stored == Mail(
            "carol", _ALICE, "1", given.text, name="Alice 👋", position=stored.position
        )

    def test_mail_without_a_name_comes_back_without_one(self) -> None:
        with self._mailbox("1") as mailbox:
            page = mailbox.page("carol", after=0, max_messages=10, max_bytes=10_000)

        assert page.mail[0].name is None

    def test_mail_is_read_first_in_first_out(self) -> None:
        with self._mailbox("c", "a", "b") as mailbox:
            assert _ids(mailbox) == ["c", "a", "b"]

    def test_reading_takes_nothing_out(self) -> None:
        with self._mailbox("1", "2") as mailbox:
            assert _ids(mailbox) == _ids(mailbox) == ["1", "2"]

    def test_everyone_reads_their_own_mail(self) -> None:
        with self._mailbox("1") as mailbox:
            mailbox.put(_mail("2", to="dave"), now_ms=0)

            assert (_ids(mailbox), _ids(mailbox, "dave")) == (["1"], ["2"])
            assert _ids(mailbox, "eve") == []

    def test_positions_grow_over_all_mailboxes(self) -> None:
        with self._mailbox() as mailbox:
            positions = [
                mailbox.put(_mail(str(number), to=to), now_ms=0).position
                for number, to in enumerate(["carol", "dave", "carol", "dave"])
            ]

        assert positions == sorted(set(positions))

    def test_a_position_is_not_used_again_after_its_mail_is_gone(self) -> None:
        with self._mailbox() as mailbox:
            first = mailbox.put(_mail("1"), now_ms=0).position
            mailbox.commit()
            mailbox.remove("carol", [first])
            mailbox.commit()

            assert mailbox.put(_mail("2"), now_ms=0).position > first

    # Pages

    def test_a_page_begins_behind_its_position(self) -> None:
        with self._mailbox("1", "2", "3") as mailbox:
            first = mailbox.page("carol", after=0, max_messages=1, max_bytes=10_000).mail[0]
            rest = mailbox.page("carol", after=first.position, max_messages=9, max_bytes=10_000)

        assert [mail.envelope_id for mail in rest.mail] == ["2", "3"]

    def test_a_page_holds_no_more_messages_than_asked_for_and_says_if_more_wait(self) -> None:
        with self._mailbox("1", "2", "3") as mailbox:
            part = mailbox.page("carol", after=0, max_messages=2, max_bytes=10_000)
            whole = mailbox.page("carol", after=0, max_messages=3, max_bytes=10_000)

        assert ([mail.envelope_id for mail in part.mail], part.is_last) == (["1", "2"], False)
        assert (len(whole.mail), whole.is_last) == (3, True)

    def test_a_page_holds_no_more_bytes_than_asked_for(self) -> None:
        with self._mailbox() as mailbox:
            for number in range(3):
                mailbox.put(_mail(str(number), "é" * 10), now_ms=0)
            part = mailbox.page("carol", after=0, max_messages=9, max_bytes=59)
            whole = mailbox.page("carol", after=0, max_messages=9, max_bytes=60)

        assert (len(part.mail), part.is_last) == (2, False)
        assert (len(whole.mail), whole.is_last) == (3, True)

    def test_a_message_longer_than_a_page_comes_alone(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail("long", "x" * 500), now_ms=0)
            mailbox.put(_mail("short"), now_ms=0)
            page = mailbox.page("carol", after=0, max_messages=9, max_bytes=100)

        assert ([mail.envelope_id for mail in page.mail], page.is_last) == (["long"], False)

    def test_only_an_empty_mailbox_has_an_empty_page(self) -> None:
        with self._mailbox() as mailbox:
            page = mailbox.page("carol", after=0, max_messages=9, max_bytes=100)

        assert (page.mail, page.is_last) == ((), True)

    # Removing and counting

    def test_what_is_removed_is_gone_and_the_rest_keeps_its_order(self) -> None:
        with self._mailbox("1", "2", "3", "4") as mailbox:
            page = mailbox.page("carol", after=0, max_messages=9, max_bytes=10_000)
            mailbox.remove("carol", [page.mail[2].position, page.mail[0].position])

            assert _ids(mailbox) == ["2", "4"]

    def test_positions_that_are_not_there_change_nothing(self) -> None:
        with self._mailbox("1") as mailbox:
            [mail] = mailbox.page("carol", after=0, max_messages=9, max_bytes=10_000).mail
            mailbox.remove("carol", [mail.position + 1, 0, -1])
            mailbox.remove("dave", [mail.position])

            assert _ids(mailbox) == ["1"]
            assert mailbox.count("carol") == (1, 2)

    def test_removing_twice_removes_once(self) -> None:
        with self._mailbox("1", "2") as mailbox:
            [mail, _] = mailbox.page("carol", after=0, max_messages=9, max_bytes=10_000).mail
            mailbox.remove("carol", [mail.position, mail.position])
            mailbox.remove("carol", [mail.position])

            assert mailbox.count("carol") == (1, 2)

    def test_what_waits_is_counted_in_messages_and_in_bytes_of_utf_8(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail("1", "é👋"), now_ms=0)
            mailbox.put(_mail("2", "abc"), now_ms=0)

            assert mailbox.count("carol") == (2, 9)
            assert mailbox.count("dave") == (0, 0)

    # Bounds

    def test_a_mailbox_takes_no_more_messages_than_its_bound(self) -> None:
        with self._mailbox("1", "2", max_messages=2) as mailbox:
            with pytest.raises(MailboxFullError):
                mailbox.put(_mail("3"), now_ms=0)

            assert _ids(mailbox) == ["1", "2"]

    def test_a_mailbox_takes_no_more_bytes_than_its_bound(self) -> None:
        with self._mailbox(max_bytes=100) as mailbox:
            mailbox.put(_mail("1", "x" * 60), now_ms=0)
            with pytest.raises(MailboxFullError):
                mailbox.put(_mail("2", "x" * 41), now_ms=0)
            mailbox.put(_mail("3", "x" * 40), now_ms=0)

            assert _ids(mailbox) == ["1", "3"]
            assert mailbox.count("carol") == (2, 100)

    def test_one_full_mailbox_fills_no_other(self) -> None:
        with self._mailbox("1", max_messages=1) as mailbox:
            mailbox.put(_mail("2", to="dave"), now_ms=0)

            assert _ids(mailbox, "dave") == ["2"]

    def test_what_is_removed_makes_room(self) -> None:
        with self._mailbox("1", max_messages=1) as mailbox:
            [mail] = mailbox.page("carol", after=0, max_messages=9, max_bytes=10_000).mail
            mailbox.remove("carol", [mail.position])
            mailbox.put(_mail("2"), now_ms=0)

            assert _ids(mailbox) == ["2"]

    # Repeats

    def test_the_same_envelope_waits_once(self) -> None:
        with self._mailbox("1") as mailbox:
            with pytest.raises(AlreadyStoredError):
                mailbox.put(_mail("1"), now_ms=0)

            assert mailbox.count("carol") == (1, 2)

    def test_a_repeat_is_told_as_one_also_by_a_full_mailbox(self) -> None:
        with self._mailbox("1", max_messages=1) as mailbox, pytest.raises(AlreadyStoredError):
            mailbox.put(_mail("1"), now_ms=0)

    def test_one_id_of_two_senders_or_for_two_recipients_is_no_repeat(self) -> None:
        with self._mailbox("1") as mailbox:
            mailbox.put(Mail("carol", _BOB, "1", "{}"), now_ms=0)
            mailbox.put(_mail("1", to="dave"), now_ms=0)

            assert (_ids(mailbox), _ids(mailbox, "dave")) == (["1", "1"], ["1"])

    def test_envelopes_without_an_id_are_never_repeats(self) -> None:
        with self._mailbox("", "") as mailbox:
            assert _ids(mailbox) == ["", ""]

    def test_what_no_longer_waits_can_be_put_again(self) -> None:
        with self._mailbox("1") as mailbox:
            [mail] = mailbox.page("carol", after=0, max_messages=9, max_bytes=10_000).mail
            mailbox.remove("carol", [mail.position])
            again = mailbox.put(_mail("1"), now_ms=0)

            assert again.position > mail.position

    # Age

    def test_only_what_was_stored_before_a_moment_expires(self) -> None:
        with self._mailbox() as mailbox:
            for number, to in enumerate(["carol", "dave", "carol"]):
                mailbox.put(_mail(str(number), to=to), now_ms=1_000 + number)

            assert mailbox.expire(before_ms=1_002) == 2
            assert (_ids(mailbox), _ids(mailbox, "dave")) == (["2"], [])
            assert mailbox.count("carol") == (1, 2)

    def test_where_nothing_is_old_nothing_expires(self) -> None:
        with self._mailbox("1") as mailbox:
            assert mailbox.expire(before_ms=1_000) == 0
            assert _ids(mailbox) == ["1"]

    # Committing

    def test_changes_are_seen_before_they_are_committed(self) -> None:
        with self._mailbox() as mailbox:
            mailbox.put(_mail("1"), now_ms=0)

            assert _ids(mailbox) == ["1"]

    def test_what_was_not_committed_can_be_undone(self) -> None:
        with self._mailbox("1", "2") as mailbox:
            [first, _] = mailbox.page("carol", after=0, max_messages=9, max_bytes=10_000).mail
            mailbox.put(_mail("3"), now_ms=1_000)
            mailbox.remove("carol", [first.position])
            mailbox.expire(before_ms=2_000)

            mailbox.rollback()

            assert _ids(mailbox) == ["1", "2"]
            assert mailbox.count("carol") == (2, 4)

    def test_what_was_committed_cannot_be_undone(self) -> None:
        with self._mailbox("1") as mailbox:
            mailbox.put(_mail("2"), now_ms=0)
            mailbox.commit()

            mailbox.rollback()

            assert _ids(mailbox) == ["1", "2"]

    def test_a_refused_message_undoes_none_before_it(self) -> None:
        with self._mailbox(max_messages=1) as mailbox:
            mailbox.put(_mail("1"), now_ms=0)
            with pytest.raises(MailboxFullError):
                mailbox.put(_mail("2"), now_ms=0)
            with pytest.raises(AlreadyStoredError):
                mailbox.put(_mail("1"), now_ms=0)
            mailbox.commit()

            assert _ids(mailbox) == ["1"]

    def test_committing_or_undoing_nothing_is_harmless(self) -> None:
        with self._mailbox("1") as mailbox:
            mailbox.commit()
            mailbox.rollback()
            mailbox.commit()

            assert _ids(mailbox) == ["1"]
