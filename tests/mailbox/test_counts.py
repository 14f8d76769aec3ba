"""What is held is counted right, whoever changes it, in whichever order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.keys import PeerId
from agora.mailbox import Mailbox, MailboxBounds, Put, SqliteMailbox
from agora.mailbox.damage import find_damage
from agora.protocol.relay.actions import Mail

from .storing import ALICE, BOB, BOUNDS, CAROL

PEERS = st.sampled_from([keys.peer_id for keys in (ALICE, BOB, CAROL)])
POSITIONS = st.lists(st.integers(1, 30), max_size=6)

Change = Callable[[Mailbox, "count[int]"], object]


def putting(many: list[tuple[PeerId, PeerId, str]]) -> Change:
    def put(mailbox: Mailbox, positions: count[int]) -> None:
        mail = [Mail(to, of, "", text, position=next(positions)) for to, of, text in many]
        mailbox.put_many([Put(one, 0) for one in mail])

    return put


changes = st.one_of(
    st.lists(st.tuples(PEERS, PEERS, st.sampled_from(["", "é", "text"])), max_size=5).map(putting),
    st.builds(lambda who, at: lambda mailbox, _: mailbox.remove(who, at), PEERS, POSITIONS),
    st.builds(lambda who, at: lambda mailbox, _: mailbox.bury(who, at, now_ms=1), PEERS, POSITIONS),
    st.builds(lambda who: lambda mailbox, _: mailbox.purge(who), PEERS),
    st.builds(lambda who: lambda mailbox, _: mailbox.count(who), PEERS),
    st.just(lambda mailbox, _: mailbox.rollback()),
)


@given(st.lists(st.tuples(st.booleans(), st.lists(changes, max_size=4)), max_size=12))
def test_what_two_processes_hold_is_counted_right(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[bool, list[Change]]]
) -> None:
    folder = tmp_path_factory.mktemp("counts")
    path = folder / "mailbox.sqlite3"
    positions = count(1)
    with closing(SqliteMailbox(path, BOUNDS)) as one, closing(SqliteMailbox(path, BOUNDS)) as other:
        for is_other, steps in turns:
            mailbox = other if is_other else one
            for change in steps:
                change(mailbox, positions)
            mailbox.commit()

    assert find_damage(path) is None


def test_a_full_store_that_another_has_emptied_takes_mail_again(tmp_path: Path) -> None:
    bounds = MailboxBounds(max_messages=9, max_bytes=99, store_bytes=3)
    path = tmp_path / "mailbox.sqlite3"
    mail = Mail(CAROL.peer_id, ALICE.peer_id, "", "x", position=1)
    with closing(SqliteMailbox(path, bounds)) as one, closing(SqliteMailbox(path, bounds)) as other:
        one.put_many([Put(mail, 0)])
        one.commit()
        other.remove(CAROL.peer_id, [1])
        other.commit()
        with closing(sqlite3.connect(path)) as reader:
            held = reader.execute("SELECT count(*) FROM held").fetchone()

        assert held == (0,)
        assert one.put_many([Put(mail, 0)]) == [None]
