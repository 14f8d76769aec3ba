"""Threads that verify: everything is told, once, on the loop, whoever did the work."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from agora.envelope import seal
from agora.frames import Submit, decode_request, encode_submit
from agora.keys import KeyPair
from agora.relay.verifier import InlineVerifier, ThreadedVerifier
from agora.sealed import PlainSealed

ALICE, BOB = KeyPair.generate(), KeyPair.generate()
DEADLINE = 30.0


def sealed(number: int, *, is_forged: bool = False) -> PlainSealed:
    envelope = seal(ALICE, type="publish", payload=number, to=BOB.peer_id, timestamp_ms=1)
    text = encode_submit(BOB.peer_id, envelope.wire_text)
    request = decode_request(text.replace(envelope.signature, "5" * 128) if is_forged else text)
    assert isinstance(request, Submit)
    assert isinstance(request.envelope, PlainSealed)
    return request.envelope


@pytest.fixture
async def verifier() -> AsyncIterator[ThreadedVerifier]:
    loop = asyncio.get_running_loop()
    verifier = ThreadedVerifier(
        2, call_soon=loop.call_soon, call_soon_threadsafe=loop.call_soon_threadsafe
    )
    yield verifier
    verifier.close()


async def verify_all(verifier: ThreadedVerifier, envelopes: list[PlainSealed]) -> list[int]:
    """Have all verified, and return on which thread each was told."""
    told: list[int] = []
    all_told = asyncio.Event()

    def done() -> None:
        told.append(threading.get_ident())
        if len(told) == len(envelopes):
            all_told.set()

    for envelope in envelopes:
        verifier.submit(envelope, done)
    async with asyncio.timeout(DEADLINE):
        await all_told.wait()
    return told


@pytest.mark.parametrize("count", [1, 3, 4, 40, 1_000])
async def test_every_envelope_is_verified_and_told_on_the_loop(
    verifier: ThreadedVerifier, count: int
) -> None:
    envelopes = [sealed(number) for number in range(count)]

    told = await verify_all(verifier, envelopes)

    assert set(told) == {threading.get_ident()}
    assert len(told) == count
    assert all(envelope.is_verified and envelope.is_genuine for envelope in envelopes)


async def test_a_forgery_is_found_among_the_genuine(verifier: ThreadedVerifier) -> None:
    envelopes = [sealed(number, is_forged=number % 5 == 0) for number in range(50)]

    await verify_all(verifier, envelopes)

    assert [envelope.is_genuine for envelope in envelopes] == [bool(n % 5) for n in range(50)]


async def test_few_envelopes_need_no_threads(verifier: ThreadedVerifier) -> None:
    before = threading.active_count()

    await verify_all(verifier, [sealed(1)])

    assert threading.active_count() == before


async def test_many_envelopes_at_once_are_no_work_left_over() -> None:
    told: list[int] = []
    soon: list[object] = []
    verifier = ThreadedVerifier(
        2, call_soon=soon.append, call_soon_threadsafe=lambda collect: soon.append(collect)
    )
    envelopes = [sealed(number) for number in range(300)]

    for number, envelope in enumerate(envelopes):
        verifier.submit(envelope, lambda number=number: told.append(number))  # type: ignore[misc]

    # The loop has done itself what would have been too much to wait.
    assert told == list(range(256, 300))
    assert len(soon) == 1


async def test_a_verifier_can_be_closed_more_than_once(verifier: ThreadedVerifier) -> None:
    await verify_all(verifier, [sealed(number) for number in range(20)])
    before = threading.active_count()

    verifier.close()
    verifier.close()

    assert threading.active_count() == before - 2


def test_without_threads_it_is_done_at_once() -> None:
    told: list[bool] = []
    envelope = sealed(1)

    InlineVerifier().submit(envelope, lambda: told.append(envelope.is_verified))

    assert told == [True]
