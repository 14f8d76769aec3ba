"""A process that verifies: everything is told, once, on the loop, whoever did the work."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agora.envelope import seal
from agora.frames import Submit, decode_request, encode_submit
from agora.keys import KeyPair
from agora.relay.verifier import InlineVerifier, ProcessVerifier
from agora.sealed import PlainSealed
from tests.support import eventually

ALICE, BOB = KeyPair.generate(), KeyPair.generate()
DEADLINE = 30.0


def sealed(number: int, *, is_forged: bool = False, signature: str = "5" * 128) -> PlainSealed:
    envelope = seal(ALICE, type="publish", payload=number, to=BOB.peer_id, timestamp_ms=1)
    text = encode_submit(BOB.peer_id, envelope.wire_text)
    request = decode_request(text.replace(envelope.signature, signature) if is_forged else text)
    assert isinstance(request, Submit)
    assert isinstance(request.envelope, PlainSealed)
    return request.envelope


@pytest.fixture
async def verifier() -> AsyncIterator[ProcessVerifier]:
    verifier = ProcessVerifier(1, asyncio.get_running_loop())
    yield verifier
    verifier.close()


def helpers() -> list[int]:
    """Return the processes that this one has started to verify."""
    mine = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"agora.verifying" in (path / "cmdline").read_bytes():
                mine.append(int(path.name))
        except OSError:
            continue  # it has ended meanwhile
    return mine


async def verify_all(verifier: ProcessVerifier, envelopes: list[PlainSealed]) -> list[int]:
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


async def busy(verifier: ProcessVerifier) -> int:
    """Give it enough to do that it starts a process, and return that when it has its share."""
    async with asyncio.timeout(DEADLINE):
        while not verifier.in_processes:
            await verify_all(verifier, [sealed(number) for number in range(64)])
    [helper] = helpers()
    return helper


@pytest.mark.parametrize("count", [1, 3, 4, 40, 1_000])
async def test_every_envelope_is_verified_and_told_on_the_loop(
    verifier: ProcessVerifier, count: int
) -> None:
    envelopes = [sealed(number) for number in range(count)]

    told = await verify_all(verifier, envelopes)

    assert set(told) == {threading.get_ident()}
    assert len(told) == count
    assert all(envelope.is_verified and envelope.is_genuine for envelope in envelopes)


async def test_nothing_waits_for_a_process_to_start(verifier: ProcessVerifier) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(verify_all(verifier, [sealed(number) for number in range(64)]))
        await eventually(lambda: helpers() != [])
        [helper] = helpers()
        os.kill(helper, signal.SIGSTOP)

    assert verifier.in_processes == 0
    os.kill(helper, signal.SIGCONT)


async def test_a_forgery_is_found_among_the_genuine(verifier: ProcessVerifier) -> None:
    await busy(verifier)
    envelopes = [sealed(number, is_forged=number % 5 == 0) for number in range(200)]

    await verify_all(verifier, envelopes)

    assert [envelope.is_genuine for envelope in envelopes] == [bool(n % 5) for n in range(200)]


async def test_a_signature_that_cannot_be_one_needs_no_process(verifier: ProcessVerifier) -> None:
    await busy(verifier)
    envelopes = [sealed(n, is_forged=True, signature="F" * 128) for n in range(40)]

    await verify_all(verifier, envelopes)

    assert not any(envelope.is_genuine for envelope in envelopes)


async def test_few_envelopes_need_no_process(verifier: ProcessVerifier) -> None:
    await verify_all(verifier, [sealed(1)])

    assert helpers() == []


async def test_many_envelopes_at_once_are_no_work_left_over(verifier: ProcessVerifier) -> None:
    told: list[int] = []
    envelopes = [sealed(number) for number in range(300)]

    for number, envelope in enumerate(envelopes):
        verifier.submit(envelope, lambda number=number: told.append(number))  # type: ignore[misc]

    # The loop has done at once what would have been too much to wait.
    assert told == list(range(256, 300))


async def test_large_envelopes_do_not_pile_up(verifier: ProcessVerifier) -> None:
    told: list[int] = []
    envelope = seal(ALICE, type="publish", payload="x" * 200_000, to=BOB.peer_id, timestamp_ms=1)
    text = encode_submit(BOB.peer_id, envelope.wire_text)

    for number in range(30):
        request = decode_request(text)
        assert isinstance(request, Submit)
        assert isinstance(request.envelope, PlainSealed)
        verifier.submit(request.envelope, lambda number=number: told.append(number))  # type: ignore[misc]

    assert told == list(range(21, 30))


async def test_what_a_process_has_in_hand_when_it_dies_is_verified_all_the_same(
    verifier: ProcessVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(await busy(verifier), signal.SIGKILL)
    envelopes = [sealed(number, is_forged=number % 3 == 0) for number in range(200)]

    await verify_all(verifier, envelopes)

    assert [envelope.is_genuine for envelope in envelopes] == [bool(n % 3) for n in range(200)]
    assert helpers() == []
    assert "verifying process has ended" in caplog.text
    caplog.clear()


async def test_a_process_that_stands_still_is_ended_and_nothing_lost(
    verifier: ProcessVerifier, caplog: pytest.LogCaptureFixture
) -> None:
    helper = await busy(verifier)
    os.kill(helper, signal.SIGSTOP)
    envelopes = [sealed(number) for number in range(100)]

    async with asyncio.TaskGroup() as group:
        all_told = group.create_task(verify_all(verifier, envelopes))
        while not all_told.done():
            verifier.look_after()  # as often as it gets its turn, which is sooner than in a second
            await asyncio.sleep(0.01)

    assert all(envelope.is_verified for envelope in envelopes)
    assert helpers() == []
    caplog.clear()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
async def test_what_ends_a_relay_from_outside_does_not_end_its_process_first(
    verifier: ProcessVerifier, ending: signal.Signals
) -> None:
    helper = await busy(verifier)
    os.kill(helper, ending)

    await verify_all(verifier, [sealed(number) for number in range(100)])

    assert helpers() == [helper]


async def test_a_verifier_that_is_closed_leaves_no_process(verifier: ProcessVerifier) -> None:
    await busy(verifier)

    verifier.close()
    verifier.close()

    assert helpers() == []


def test_without_a_process_it_is_done_at_once() -> None:
    told: list[bool] = []
    envelope = sealed(1)

    InlineVerifier().submit(envelope, lambda: told.append(envelope.is_verified))

    assert told == [True]
