"""
A process that stores mail until it is stopped, for the tests to kill: ``python -m``.

``for_ever PATH`` commits three messages at a time and says so, then puts one
more that it never commits. ``until_full PATH`` is a relay whose disk fills up.
Both print one line for each thing done, the moment that it is done.
"""

from __future__ import annotations

import itertools
import logging
import resource
import sys
from pathlib import Path

from agora.mailbox import SqliteMailbox
from agora.protocol.actions import Mail
from agora.testing.conversation import Conversation, Speaker, keys_of

ALICE, CAROL = keys_of("alice").peer_id, keys_of("carol").peer_id
BATCH = 3


def for_ever(path: Path) -> None:
    mailbox = SqliteMailbox(path, max_messages=10**6, max_bytes=10**9)
    for number in itertools.count():
        for part in range(BATCH):
            mailbox.put(Mail(CAROL, ALICE, f"{number}.{part}", "{}"), now_ms=0)
        mailbox.commit()
        mailbox.put(Mail(CAROL, ALICE, f"{number} not committed", "{}"), now_ms=0)
        print(number, flush=True)
        mailbox.rollback()


def until_full(path: Path) -> None:
    logging.disable(logging.CRITICAL)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    talk = Conversation(
        storage_peers=["carol"], mailbox=SqliteMailbox(path, max_messages=1000, max_bytes=10**8)
    )
    [alice] = talk.meet("alice")
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, unlimited[1]))
    for _ in range(40):
        say_one(alice)
    resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    say_one(alice)


def say_one(alice: Speaker) -> None:
    letter = alice.sends(CAROL, "x" * 10_000)
    alice.asks()
    print(letter.id, *alice.hears(), sep=",", flush=True)


if __name__ == "__main__":
    {"for_ever": for_ever, "until_full": until_full}[sys.argv[1]](Path(sys.argv[2]))
