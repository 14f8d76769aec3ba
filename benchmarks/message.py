"""
What it costs a relay to bring one message: its core alone, no sockets and no signature.

    python -m benchmarks.message [--messages 5000] [--json]

Measured is CPU time of the node and all that it decides, from the text of a frame to
the texts that go out: for a message in the reference dialect that is the delivery,
in Agora/1 the delivery, the ack and the receipt. Signatures are taken as verified.
Beside it stands how often one signature could be checked in that time.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from time import process_time

from agora.codes import CloseCode
from agora.envelope import Envelope, seal
from agora.frames import WATCH_NONE, encode_ack, encode_authenticate, encode_register, encode_submit
from agora.frames.answers import Challenge, decode_answer
from agora.keys import KeyPair, verify
from agora.limits import Limits
from agora.mailbox import MailboxBounds, MemoryMailbox
from agora.protocol.proof import sign_proof
from agora.protocol.relay.router import RouterConfig
from agora.relay.node import Node
from agora.sealed import PlainSealed
from agora.testing.clock import ManualClock
from agora.testing.conversation import AUDIENCE, Disk

DIALECTS = ("reference", "agora/1")

ALICE, BOB = (KeyPair.from_seed(bytes([number]) * 32) for number in (1, 2))
NONCE = "5a" * 32
PAYLOAD = {"text": "x" * 480}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """
    What a message costs.

    Attributes:
        dialect: What both peers speak.
        message_us: Microseconds of CPU for one.
        message_verifies: The same in checks of a signature.
    """

    dialect: str
    message_us: float
    message_verifies: float


class Believer:
    """Takes every signature for genuine, as it is not what is measured."""

    def submit(self, sealed: PlainSealed, done: object) -> None:
        """Believe it."""
        assert callable(done)
        sealed._is_genuine = True
        done()


class Door:
    """A connection that counts what is written, and remembers the last of it."""

    unsent_bytes = 0

    def __init__(self, node: Node) -> None:
        self.written = 0
        self.last = ""
        self.session = node.open(self, address="192.0.2.1", audiences=(AUDIENCE,))

    def send(self, text: str) -> None:
        """Take a frame."""
        self.written += 1
        self.last = text

    def send_all(self, texts: tuple[str, ...]) -> None:
        """Take frames."""
        for text in texts:
            self.send(text)

    def ping(self, payload: bytes) -> None:
        """Leave it unanswered."""

    def withdraw(self, envelope_id: str) -> bool:
        """Keep nothing."""
        return False

    def close(self, code: CloseCode) -> None:
        """Nothing here is closed for a good reason."""
        raise AssertionError(code)


class Relay:
    """A node with a sender and a recipient."""

    def __init__(self, dialect: str) -> None:
        self._is_agora = dialect == "agora/1"
        clock = ManualClock()
        self._disk = Disk(MemoryMailbox(MailboxBounds(max_messages=10, max_bytes=10_000)))
        self._node = Node(
            Limits(rate_limit_enabled=False),
            RouterConfig(identity=KeyPair.from_seed(bytes(32))),
            writer=self._disk,
            verifier=Believer(),
            clock=clock,
            wall_ms=clock.wall_ms,
        )
        self._alice, self.bob = self._join(ALICE), self._join(BOB)
        self._now_ms = clock.wall_ms()

    def letters(self, count: int) -> list[tuple[str, str]]:
        """Return frames of messages, each with the frame that acks it."""
        return [(_submit(letter), encode_ack([letter.id])) for letter in self._seal(count)]

    def bring(self, letters: list[tuple[str, str]]) -> None:
        """Have messages brought, and acked where that can be."""
        receive = self._node.receive
        for submit, ack in letters:
            receive(self._alice.session, submit)
            if self._is_agora:
                receive(self.bob.session, ack)

    def _seal(self, count: int) -> list[Envelope]:
        return [
            seal(
                ALICE,
                type="publish",
                payload=PAYLOAD,
                to=BOB.peer_id,
                timestamp_ms=self._now_ms + number,
            )
            for number in range(count)
        ]

    def _join(self, keys: KeyPair) -> Door:
        door = Door(self._node)
        if not self._is_agora:
            self._node.receive(door.session, encode_register(keys.peer_id, None))
            return door
        register = encode_register(keys.peer_id, None, nonce=NONCE, watched=WATCH_NONE)
        self._node.receive(door.session, register)
        challenge = decode_answer(door.last)
        assert isinstance(challenge, Challenge)
        signature = sign_proof(
            keys, audience=AUDIENCE, nonce=challenge.nonce, relay=challenge.relay
        )
        self._node.receive(door.session, encode_authenticate(signature, AUDIENCE))
        while self._disk.work():
            pass
        return door


def _submit(letter: Envelope) -> str:
    return encode_submit(BOB.peer_id, letter.to_json())


def measure(dialect: str, messages: int) -> Figures:
    """Bring so many messages, some more before them, and return what one costs."""
    relay = Relay(dialect)
    letters = relay.letters(messages + messages // 10)
    relay.bring(letters[messages:])
    before = relay.bob.written
    started = process_time()
    relay.bring(letters[:messages])
    message_us = (process_time() - started) / messages * 1e6
    assert relay.bob.written - before == messages
    return Figures(
        dialect=dialect, message_us=message_us, message_verifies=message_us / _verify_us()
    )


def _verify_us(checks: int = 500) -> float:
    [letter] = [seal(ALICE, type="publish", payload=PAYLOAD, to=BOB.peer_id, timestamp_ms=1)]
    started = process_time()
    for _ in range(checks):
        assert verify(ALICE.peer_id, letter.signature, letter.canonical)
    return (process_time() - started) / checks * 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for, and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=5_000, help="how many are brought")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    given = parser.parse_args(arguments)
    for dialect in DIALECTS:
        figures = measure(dialect, given.messages)
        if given.json:
            print(json.dumps(asdict(figures)))
        else:
            print(
                f"{figures.dialect:10} {figures.message_us:6.1f} µs a message, "
                f"{figures.message_verifies:.2f} signature checks"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
