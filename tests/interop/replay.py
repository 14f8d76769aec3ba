"""
Act a recorded conversation against a relay, and hold it to what it said then.

A step is one line of the record. Its first member says who acts:

``from``   a client does: ``text``, ``binary``, ``binary_hex``, ``text_hex``
           (bytes that are no text), ``fragments``, ``raw`` (bytes that are no
           frame), ``ping``, ``close``, ``vanish``; ``open`` comes in with
           other manners; ``seal`` and ``again`` send envelopes made here
``to``     a client hears: ``frame``, ``frame_text``, ``close``, ``ping``,
           ``pong``, ``opened``, ``sealed`` (the envelopes made here)
``http``   a plain request; ``status`` is the answer's, None where there is none
``relay``  the relay ``stops``, has ``stopped``
``wait_ms``, ``wait_retry_ms``   time is part of the story
``note``, ``event``              for the reader

A text given as a list is made of pieces: strings, and ``[piece, times]``.

The rule kept here: nothing sleeps to be safe. Order on one socket is the
record's order. Before another client speaks, the last speaker's ``ping`` is
answered, so the relay is done with all it was told; at the end every client's
is, so that what should not have been said was not said.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from urllib.parse import urlsplit

from agora.envelope import EVERYONE, open_envelope, seal

from .comparing import Frame, check_frame, shortened
from .player import Player, joined, manners
from .situations import KEYS, Dialect, Situation, Step
from .sockets import Manners, RawSocket

__all__ = ["OpenRelay", "RunningRelay", "replay"]

PATIENCE = 20.0  # seconds for anything that must come; nothing waits that long but a failure
SAME_MS = 2  # a relay that keeps monotonic times and tells them as dates is a rounding off


class RunningRelay(Protocol):
    """A relay that listens."""

    @property
    def url(self) -> str: ...


OpenRelay = Callable[[Situation], AbstractAsyncContextManager[RunningRelay]]


async def replay(situation: Situation, open_relay: OpenRelay) -> list[Frame]:
    """
    Act *situation* against the relay of *open_relay*; return every frame that was heard.

    Raises:
        AssertionError: At the first step that goes another way than recorded.
    """
    failure: AssertionError | None = None
    async with asyncio.TaskGroup() as tasks:
        house = _House(open_relay(situation))
        tasks.create_task(house.keep())
        stage = _Stage(situation.dialect, await house.url(), house, tasks)
        try:
            await _act(situation, stage)
        except AssertionError as error:
            failure = error  # raised below: a task group would wrap it
        finally:
            stage.leave()
            house.stop()
    if failure is not None:
        raise failure
    return [frame for player in stage.everyone for frame in player.frames]


async def _act(situation: Situation, stage: _Stage) -> None:
    for number, step in enumerate(situation.steps):
        try:
            await stage.act(step)
        except Exception as error:  # whatever went wrong, a reader needs the step first
            told = shortened(json.dumps(step))
            raise AssertionError(f"{situation.title}, step {number}: {told}\n{error}") from error
    await stage.settle_all()


class _House:
    """The relay, kept by a task of its own: who starts a relay also stops it."""

    def __init__(self, relay: AbstractAsyncContextManager[RunningRelay]) -> None:
        self._relay = relay
        self._url: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._must_stop = asyncio.Event()
        self._has_stopped = asyncio.Event()

    async def keep(self) -> None:
        try:
            async with self._relay as relay:
                self._url.set_result(relay.url)
                await self._must_stop.wait()
        finally:
            self._url.cancel()
            self._has_stopped.set()

    async def url(self) -> str:
        return await self._url

    def stop(self) -> None:
        self._must_stop.set()

    async def wait_stopped(self) -> None:
        await self._has_stopped.wait()


class _Stage:
    """Who is on, what they say and what they hear."""

    def __init__(self, dialect: Dialect, url: str, house: _House, tasks: asyncio.TaskGroup) -> None:
        self.everyone: list[Player] = []
        self._dialect = dialect
        self._url = url
        self._house = house
        self._tasks = tasks
        self._players: dict[str, Player] = {}
        self._last_speaker: Player | None = None
        self._timestamps = itertools.count(1767226000000)
        self._sent: dict[tuple[str, int], bytes] = {}
        self._last_seen = 0
        self._retry_after_ms = 0

    def leave(self) -> None:
        for player in self.everyone:
            player.socket.vanish()

    async def act(self, step: Step) -> None:
        async with asyncio.timeout(PATIENCE):
            match step:
                case {"note": _} | {"event": _}:
                    pass
                case {"wait_ms": int(pause)}:
                    await asyncio.sleep(pause / 1000)
                case {"wait_retry_ms": _}:
                    await asyncio.sleep(self._retry_after_ms / 1000)
                case {"relay": "stops"}:
                    await self._settle_players()
                    self._house.stop()
                case {"relay": "stopped"}:
                    await self._house.wait_stopped()
                case {"http": str(request), "status": status}:
                    assert await _http_status(self._url, request) == status
                case {"from": str(name), "open": members}:
                    await self._come_in(name, manners(**members))
                case {"from": str(name)}:
                    await self._speak(name, step)
                case {"to": str(name)}:
                    await self._hear(self._players[name], step)
                case _:
                    raise ValueError(f"no such step: {step}")

    async def settle_all(self) -> None:
        """Wait until the relay has done all it was told; nobody has heard more than was told."""
        async with asyncio.timeout(PATIENCE):
            await self._settle_players()
        unheard = {name: player.unheard() for name, player in self._players.items()}
        assert not any(unheard.values()), f"heard besides: {unheard}"

    async def _settle_players(self) -> None:
        # Twice: what the first client's words set off may reach the second after its own pong.
        for player in [*self._players.values()] * 2:
            await player.settle()

    # A client does

    async def _come_in(self, name: str, how: Manners) -> Player:
        player = Player(await RawSocket.connect(self._url, how, self._tasks))
        self._players[name] = player
        self.everyone.append(player)
        return player

    async def _speak(self, name: str, step: Step) -> None:
        player = self._players.get(name)
        if player is None or player.is_over:
            player = await self._come_in(name, Manners())
        if self._last_speaker is not None and self._last_speaker is not player:
            await self._last_speaker.settle()
        self._last_speaker = player
        match step:
            case {"seal": order}:
                self._send_sealed(player, name, **order)
            case {"again": int(payload)}:
                player.socket.send_text(self._sent[name, payload])
            case _:
                player.do(step)

    def _send_sealed(
        self,
        player: Player,
        name: str,
        *,
        to: str,
        payload: int,
        count: int = 1,
        by: str | None = None,
        recipients: list[str] | None = None,
        spoil: str | None = None,
    ) -> None:
        """Send *count* envelopes with the payloads from *payload* on; to ``*`` is a broadcast."""
        for content in range(payload, payload + count):
            envelope = seal(
                KEYS[_key_name(by or name)],
                type="publish",
                payload=content,
                to=[KEYS[recipient].peer_id for recipient in recipients or [to]],
                timestamp_ms=next(self._timestamps),
            ).to_dict()
            if spoil is not None:
                envelope[spoil] = "0" * 128
            self._sent[name, content] = text = _frame_of(to, envelope)
            player.socket.send_text(text)

    # A client hears

    async def _hear(self, player: Player, step: Step) -> None:
        match step:
            case {"close": int(code)}:
                assert str(await player.hear()) == f"close {code}"
            case {"ping": payload}:
                await player.hear_control("ping", payload)
            case {"pong": payload}:
                await player.hear_control("pong", payload)
            case {"opened": recorded}:
                player.check_handshake(recorded)
            case {"sealed": order}:
                await self._hear_sealed(player, **order)
            case {"frame_text": pieces}:
                await self._hear_text(player, joined(pieces))
            case {"frame": recorded}:
                await self._hear_frame(player, recorded, step)
            case _:
                raise ValueError(f"no such step: {step}")

    async def _hear_frame(self, player: Player, recorded: Frame, step: Step) -> None:
        heard = await player.hear_frame()
        check_frame(recorded, heard, step, self._dialect)
        self._retry_after_ms = heard.get("retryAfterMs", self._retry_after_ms)
        if "last_seen" in step:
            [peer] = heard["envelope"]["payload"]["peers"]
            self._check_last_seen(peer["lastSeen"], step["last_seen"])

    async def _hear_text(self, player: Player, recorded: str) -> None:
        """Hear a frame that is too large or too deep to be read without need."""
        heard = (await player.hear()).text
        if heard != recorded:
            assert json.loads(heard) == json.loads(recorded), f"heard {shortened(heard)}"

    async def _hear_sealed(
        self, player: Player, *, by: str, payload: int, count: int = 1, order: str = "kept"
    ) -> None:
        """Hear *count* of the envelopes that *by* sent, with the payloads from *payload* on."""
        heard = [await player.hear_frame() for _ in range(count)]
        assert {frame["type"] for frame in heard} == {"message"}, f"heard {shortened(heard)}"
        envelopes = [open_envelope(frame["envelope"]) for frame in heard]
        assert {envelope.sender for envelope in envelopes} == {KEYS[by].peer_id}
        contents = [envelope.payload for envelope in envelopes]
        if order == "any":
            contents.sort(key=lambda content: content if isinstance(content, int) else -1)
        assert contents == list(range(payload, payload + count))

    def _check_last_seen(self, last_seen: int, told: str) -> None:
        match told:
            case "as before":
                assert abs(last_seen - self._last_seen) <= SAME_MS
            case "later":
                assert last_seen > self._last_seen + SAME_MS
        self._last_seen = last_seen


def _key_name(name: str) -> str:
    """Return whose key a client has: A2 is a second socket of A, S2 is itself."""
    return name if name in KEYS else name.rstrip("2")


def _frame_of(to: str, envelope: Mapping[str, Any]) -> bytes:
    if to == EVERYONE:
        return json.dumps({"type": "broadcast", "envelope": envelope}).encode()
    return json.dumps({"type": "message", "to": KEYS[to].peer_id, "envelope": envelope}).encode()


async def _http_status(url: str, request: str) -> int | None:
    """Return the status of a plain request's answer; None where there is none within a second."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"{request} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    try:
        async with asyncio.timeout(1.0):
            line = await reader.readline()
    except TimeoutError:
        return None
    finally:
        writer.transport.abort()
    return int(line.split()[1])
