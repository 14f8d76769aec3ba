"""The mailboxes' one thread: group commit, results in order, and only of what is committed."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread, get_ident

import pytest

from agora.group_commit import nobody
from agora.mailbox import (
    AlreadyStoredError,
    Mailbox,
    MailboxBounds,
    MailboxFullError,
    MemoryMailbox,
    Put,
    Refusal,
)
from agora.protocol.relay.actions import Mail
from agora.relay.writer import Job, MailboxWriter, PutMail, RemoveMail, commit_together
from agora.testing.conversation import keys_of

DEADLINE = 30.0


class WatchedMailbox(MemoryMailbox):
    """Counts its commits, and fails as many of them as it is told to."""

    def __init__(self) -> None:
        super().__init__(MailboxBounds(max_messages=100, max_bytes=10_000))
        self.commits = 0
        self.commits_to_fail = 0
        self.is_closed = False
        self.put_together: list[int] = []

    def put_many(self, puts: Sequence[Put]) -> list[Refusal | None]:
        self.put_together.append(len(puts))
        return super().put_many(puts)

    def commit(self) -> bool:
        if self.commits_to_fail:
            self.commits_to_fail -= 1
            raise OSError("no space left on device")
        self.commits += 1
        return super().commit()

    def close(self) -> None:
        # What it holds stays to be looked at.
        self.is_closed = True


class Room:
    """A writer with its mailbox; the test's own thread is the loop that it reports to."""

    def __init__(self) -> None:
        self.mailbox = WatchedMailbox()
        self.results: list[object] = []
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.writer = MailboxWriter(self.mailbox, self._posted.put)

    def submit(self, work: Callable[[Mailbox], object]) -> None:
        self.writer.submit(work, self.results.append)

    def put(self, *ids: str) -> None:
        for envelope_id in ids:
            self.submit(putting(envelope_id)[0])

    def wait_results(self, count: int) -> list[object]:
        while len(self.results) < count:
            self._posted.get(timeout=DEADLINE)()
        return self.results

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the thread busy for the length of a ``with`` block."""
        is_busy, go_on = Event(), Event()

        def hold(mailbox: Mailbox) -> None:
            is_busy.set()
            go_on.wait(DEADLINE)

        self.writer.submit(hold, lambda result: None)
        is_busy.wait(DEADLINE)
        try:
            yield
        finally:
            go_on.set()

    def stored(self) -> list[str]:
        return stored_in(self.mailbox)


@pytest.fixture
def room() -> Iterator[Room]:
    room = Room()
    yield room
    room.writer.close()


def putting(envelope_id: str) -> Job:
    """Return a job that stores a message and returns it, and whose result nobody is told."""
    sender = keys_of("alice").peer_id
    mail = Mail("carol", sender, envelope_id, "{}", position=next(_positions))

    def put(mailbox: Mailbox) -> Mail:
        mailbox.put(mail, now_ms=0)
        return mail

    return (put, lambda result: None)


_positions = itertools.count(1)


def stored_in(mailbox: Mailbox) -> list[str]:
    page = mailbox.page("carol", after=0, max_messages=100, max_bytes=10_000)
    return [mail.envelope_id for mail in page.mail]


def fail(mailbox: Mailbox) -> object:
    raise OSError("disk on fire")


def refuse(mailbox: Mailbox) -> object:
    raise MailboxFullError("full")


def kinds(results: list[object]) -> list[type]:
    return [type(result) for result in results]


def test_results_are_told_in_the_order_of_the_jobs(room: Room) -> None:
    for number in range(100):
        room.submit(lambda mailbox, n=number: n)  # type: ignore[misc]

    assert room.wait_results(100) == list(range(100))


def test_results_are_told_on_the_thread_that_asked(room: Room) -> None:
    told_on: list[int] = []
    worked_on: list[int] = []
    room.writer.submit(
        lambda mailbox: worked_on.append(get_ident()), lambda result: told_on.append(get_ident())
    )
    room.submit(lambda mailbox: None)

    room.wait_results(1)

    assert told_on == [get_ident()]
    assert worked_on != told_on


def test_a_result_is_told_after_its_commit(room: Room) -> None:
    commits_when_told: list[int] = []
    room.writer.submit(
        lambda mailbox: None, lambda result: commits_when_told.append(room.mailbox.commits)
    )
    room.submit(lambda mailbox: None)

    room.wait_results(1)

    assert commits_when_told[0] >= 1


def test_all_that_waits_is_committed_at_once(room: Room) -> None:
    with room.held():
        room.put(*"abcdefghij")
    room.wait_results(10)

    assert room.stored() == list("abcdefghij")
    assert room.mailbox.commits == 2  # one for the job that kept it busy


def test_a_job_that_fails_takes_no_other_with_it(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    with room.held():
        room.put("a")
        room.submit(fail)
        room.put("b")
    results = room.wait_results(3)

    assert kinds(results) == [Mail, OSError, Mail]
    assert room.stored() == ["a", "b"]
    assert_said(caplog, "mailbox commit failed")


def test_a_refusal_is_an_answer_and_undoes_nothing(room: Room) -> None:
    with room.held():
        room.put("a")
        room.submit(refuse)
        room.put("b")
    results = room.wait_results(3)

    assert kinds(results) == [Mail, MailboxFullError, Mail]
    assert room.mailbox.commits == 2


def test_a_commit_that_fails_is_tried_again_job_by_job(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = WatchedMailbox()
    mailbox.commits_to_fail = 1

    results = commit_together(mailbox, [putting(i) for i in "abc"])

    assert kinds([result for _, result in results]) == [Mail, Mail, Mail]
    assert stored_in(mailbox) == ["a", "b", "c"]
    assert mailbox.commits == 3
    assert_said(caplog, "mailbox commit failed")


def test_only_the_job_that_cannot_be_committed_fails(caplog: pytest.LogCaptureFixture) -> None:
    mailbox = WatchedMailbox()
    mailbox.commits_to_fail = 2  # that of all, and that of the first alone

    results = commit_together(mailbox, [putting(i) for i in "abc"])

    assert kinds([result for _, result in results]) == [OSError, Mail, Mail]
    assert stored_in(mailbox) == ["b", "c"]
    assert_said(caplog, "mailbox commit failed")


def test_what_cannot_be_committed_is_undone_and_said(
    room: Room, caplog: pytest.LogCaptureFixture
) -> None:
    room.mailbox.commits_to_fail = 2
    room.put("a")
    [result] = room.wait_results(1)
    room.put("b")
    room.wait_results(2)

    assert isinstance(result, OSError)
    assert room.stored() == ["b"]
    assert_said(caplog, "mailbox commit failed")


def test_what_is_put_side_by_side_is_put_in_one_go_and_the_order_of_all_is_kept() -> None:
    mailbox = WatchedMailbox()
    batch: list[Job] = [
        *side_by_side("a", "b", "a"),
        (lambda mailbox: stored_in(mailbox), nobody),
        (RemoveMail("carol", ids=("a",)), nobody),
        (RemoveMail("carol", ids=("c", "b")), nobody),
        *side_by_side("a"),
    ]

    results = [result for _, result in commit_together(mailbox, batch)]

    assert kinds(results[:3]) == [type(None), type(None), AlreadyStoredError]
    assert results[3:] == [["a", "b"], None, None, None]
    assert stored_in(mailbox) == ["a"]
    assert (mailbox.put_together, mailbox.commits) == ([3, 1], 1)


def test_mail_is_removed_by_id_and_by_position_of_whoever_it_is() -> None:
    mailbox = WatchedMailbox()
    commit_together(mailbox, side_by_side("a", "b", "c"))
    last = mailbox.last_position()
    jobs: list[Job] = [
        (RemoveMail("dave", ids=("b",), positions=(last,)), nobody),
        (RemoveMail("carol", ids=("a",), positions=(last,)), nobody),
    ]

    results = commit_together(mailbox, jobs)

    assert [result for _, result in results] == [None, None]
    assert stored_in(mailbox) == ["b"]


def test_what_was_put_in_one_go_is_put_one_by_one_where_that_has_failed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mailbox = WatchedMailbox()
    mailbox.commits_to_fail = 2  # that of all, and that of the first alone

    results = commit_together(mailbox, side_by_side("a", "b", "b"))

    outcomes = [result for _, result in results]
    assert kinds(outcomes) == [OSError, type(None), AlreadyStoredError]
    assert stored_in(mailbox) == ["b"]
    assert_said(caplog, "mailbox commit failed")


def side_by_side(*ids: str) -> list[Job]:
    """Return jobs that store messages, as a node has them."""
    sender = keys_of("alice").peer_id
    mail = [Mail("carol", sender, one, "{}", position=next(_positions)) for one in ids]
    return [(PutMail(one, 0), nobody) for one in mail]


def test_closing_finishes_what_was_queued() -> None:
    room = Room()
    with room.held():
        room.put(*"abc")
        closing = Thread(target=room.writer.close)
        closing.start()
    closing.join(DEADLINE)

    assert kinds(room.wait_results(3)) == [Mail, Mail, Mail]
    assert room.stored() == ["a", "b", "c"]
    assert room.mailbox.is_closed


def assert_said(caplog: pytest.LogCaptureFixture, *messages: str) -> None:
    """Check the log, and clear it: what was expected is no fault."""
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    caplog.clear()
    assert said == list(messages)
