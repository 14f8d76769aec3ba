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
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from urllib.parse import urlsplit

from agora.envelope import EVERYONE, Envelope, open_envelope, seal

from .situations import KEYS, Dialect, Situation
from .sockets import Heard, Manners, RawSocket

__all__ = ["OpenRelay", "RunningRelay", "replay"]

PATIENCE = 20.0  # seconds for anything that must come; nothing waits that long but a failure

# Members that our relay adds to a frame: not compared, unless a step names them.
ADDED_MEMBERS = frozenset({"code", "id", "to", "retryAfterMs", "relay", "reason", "sessionId"})


class RunningRelay(Protocol):
    """A relay that listens."""

    @property
    def url(self) -> str: ...


Frame = dict[str, Any]
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
    return stage.heard


async def _act(situation: Situation, stage: _Stage) -> None:
    for number, step in enumerate(situation.steps):
        try:
            await stage.act(step)
        except Exception as error:  # whatever went wrong, the step is what a reader needs first
            raise AssertionError(
                f"{situation.title}, step {number}: {_shortened(json.dumps(step))}\n{error}"
            ) from error
    await stage.settle_all()


class _House:
    """The relay, kept by a task of its own: it is stopped by the one that started it."""

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
    """Who is on, what they have said and heard."""

    def __init__(
        self, dialect: Dialect, url: str, house: _House, tasks: asyncio.TaskGroup
    ) -> None:
        self._dialect = dialect
        self._url = url
        self._house = house
        self._tasks = tasks
        self._players: dict[str, _Player] = {}
        self._sockets: list[RawSocket] = []
        self.heard: list[Frame] = []
        self._last_speaker: _Player | None = None
        self._timestamps = itertools.count(1767226000000)
        self._envelopes: dict[tuple[str, Any], tuple[str | None, Envelope]] = {}
        self._last_seen: list[int] = []
        self._retry_after_ms = 0

    def leave(self) -> None:
        for socket in self._sockets:
            socket.vanish()

    async def act(self, step: Mapping[str, Any]) -> None:
        async with asyncio.timeout(PATIENCE):
            match step:
                case {"note": _} | {"event": _}:
                    pass
                case {"wait_ms": int(pause)}:
                    await asyncio.sleep(pause / 1000)
                case {"wait_retry_ms": _}:
                    await asyncio.sleep(self._retry_after_ms / 1000)
                case {"relay": "stops"}:
                    await self.settle_all()
                    self._house.stop()
                case {"relay": "stopped"}:
                    await self._house.wait_stopped()
                case {"http": str(request), "status": status}:
                    assert await _http_status(self._url, request) == status
                case {"from": str(name), "open": manners}:
                    await self._open(name, _manners(**manners))
                case {"from": str(name)}:
                    await self._speak(name, step)
                case {"to": str(name)}:
                    await self._hear(self._players[name], step)
                case _:
                    raise ValueError(f"no such step: {step}")

    async def settle_all(self) -> None:
        """Wait until the relay has done all it was told; nobody may have heard more than recorded."""
        # Twice: what the first client's words set off may reach the second after its own pong.
        for player in [*self._players.values()] * 2:
            await player.settle()
        unheard = {n: [str(h) for h in p.unheard()] for n, p in self._players.items()}
        assert not any(unheard.values()), f"heard besides: {unheard}"

    # A client does

    async def _open(self, name: str, manners: Manners) -> _Player:
        socket = await RawSocket.connect(self._url, manners, self._tasks)
        self._sockets.append(socket)
        self._players[name] = player = _Player(socket, self.heard)
        return player

    async def _speak(self, name: str, step: Mapping[str, Any]) -> None:
        player = self._players.get(name)
        if player is None or player.is_over:
            player = await self._open(name, Manners())
        if self._last_speaker not in (None, player):
            await self._last_speaker.settle()
        self._last_speaker = player
        match step:
            case {"seal": order}:
                self._send_sealed(player, name, **order)
            case {"again": payload}:
                to, envelope = self._envelopes[name, payload]
                player.socket.send_text(_frame_of(to, envelope.to_dict()))
            case _:
                player.say(step)

    def _send_sealed(
        self,
        player: _Player,
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
        signer = KEYS[_key_name(by or name)]
        addressed = [KEYS[recipient].peer_id for recipient in recipients or [to]]
        frame_to = None if to == EVERYONE else KEYS[to].peer_id
        for content in range(payload, payload + count):
            envelope = seal(
                signer,
                type="publish",
                payload=content,
                to=addressed,
                timestamp_ms=next(self._timestamps),
            )
            self._envelopes[name, content] = frame_to, envelope
            members = envelope.to_dict() | ({spoil: "0" * 128} if spoil else {})
            player.socket.send_text(_frame_of(frame_to, members))

    # A client hears

    async def _hear(self, player: _Player, step: Mapping[str, Any]) -> None:
        match step:
            case {"close": int(code)}:
                assert str(await player.hear()) == f"close {code}"
            case {"ping": payload}:
                await player.hear_control("ping", payload)
            case {"pong": payload}:
                await player.hear_control("pong", payload)
            case {"opened": headers}:
                player.check_handshake(**headers)
            case {"sealed": order}:
                await self._hear_sealed(player, **order)
            case {"frame_text": pieces}:
                await self._hear_text(player, joined(pieces))
            case {"frame": expected}:
                self._check(expected, await player.hear_frame(), step)
            case _:
                raise ValueError(f"no such step: {step}")

    async def _hear_text(self, player: _Player, expected: str) -> None:
        """Hear a frame too large or too deep to be compared member by member without need."""
        heard = await player.hear()
        if heard.text != expected:
            assert json.loads(heard.text) == json.loads(expected), f"heard {_shortened(str(heard))}"

    async def _hear_sealed(
        self, player: _Player, *, by: str, payload: int, count: int = 1, order: str = "kept"
    ) -> None:
        """Hear *count* of the envelopes that *by* sent, with the payloads from *payload* on."""
        heard = [await player.hear_frame() for _ in range(count)]
        assert {frame["type"] for frame in heard} == {"message"}, f"heard {heard}"
        contents = [open_envelope(frame["envelope"]).payload for frame in heard]
        if order == "any":
            contents.sort(key=str)
        expected: list[object] = list(range(payload, payload + count))
        assert contents == (sorted(expected, key=str) if order == "any" else expected)

    def _check(self, expected: dict[str, Any], heard: dict[str, Any], step: Mapping[str, Any]) -> None:
        if self._dialect == "older" and expected["type"] == "error":
            # The older relay's clients know an error by its code; its text is for people.
            expected = {name: value for name, value in expected.items() if name != "message"}
            heard = {name: value for name, value in heard.items() if name != "message"}
        wanted = _expected(expected, heard, frozenset(step.get("free", ())) | {"sessionId"})
        assert heard == wanted, f"heard    {_shortened(str(heard))}\nexpected {_shortened(str(wanted))}"
        self._retry_after_ms = heard.get("retryAfterMs", self._retry_after_ms)
        if "verifies" in step:
            assert _verifies(heard["envelope"]) == step["verifies"]
        if "last_seen" in step:
            self._check_last_seen(heard["envelope"]["payload"]["peers"][0]["lastSeen"], step["last_seen"])

    def _check_last_seen(self, last_seen: int, said: str) -> None:
        match said:
            case "as before":
                assert last_seen == self._last_seen[-1]
            case "later":
                assert last_seen > self._last_seen[-1]
        self._last_seen.append(last_seen)


class _Player:
    """One client: its socket, and what it heard before the record says so."""

    def __init__(self, socket: RawSocket, heard: list[Frame]) -> None:
        self.socket = socket
        self._heard = heard
        self.is_over = False
        self._is_registered = False
        self._early: deque[Heard] = deque()

    def say(self, what: Mapping[str, Any]) -> None:
        match what:
            case {"text": text}:
                self.socket.send_text(joined(text).encode())
            case {"text_hex": data}:
                self.socket.send_text(bytes.fromhex(data))
            case {"binary": text}:
                self.socket.send_binary(text.encode())
            case {"binary_hex": data}:
                self.socket.send_binary(bytes.fromhex(data))
            case {"fragments": texts}:
                self.socket.send_fragments([text.encode() for text in texts])
            case {"raw": data}:
                self.socket.send_raw(bytes.fromhex(data))
            case {"ping": text}:
                self.socket.send_ping(text.encode())
            case {"close": True}:
                self.socket.close()
            case {"vanish": True}:
                self.socket.vanish()
            case _:
                raise ValueError(f"no such step: {what}")

    async def hear(self) -> Heard:
        heard = self._early.popleft() if self._early else await self.socket.messages.get()
        self.is_over = self.is_over or heard.kind == "close"
        return heard

    async def hear_frame(self) -> Frame:
        heard = await self.hear()
        assert heard.kind == "text", f"heard {heard}"
        frame: Frame = json.loads(heard.text)
        self._heard.append(frame)
        self._is_registered = self._is_registered or frame["type"] == "registered"
        return frame

    async def hear_control(self, kind: str, payload: str | None) -> None:
        # Pings in between are the relay's own business.
        while (heard := await self.socket.controls.get()).kind != kind:
            pass
        assert payload in (None, heard.text)

    async def settle(self) -> None:
        """Wait until the relay has done all that this client told it."""
        if self.is_over or not self._is_registered:
            return  # the current reference closes on a ping before registration
        self.socket.send_text(b'{"type":"ping"}')
        while (heard := await self.socket.messages.get()).text != '{"type":"pong"}':
            self._early.append(heard)
            if heard.kind == "close":
                return

    def unheard(self) -> Iterable[Heard]:
        while not self.socket.messages.empty():
            self._early.append(self.socket.messages.get_nowait())
        return self._early

    def check_handshake(self, **headers: str | None) -> None:
        names = {"extensions": "Sec-WebSocket-Extensions", "subprotocol": "Sec-WebSocket-Protocol"}
        heard = {name: self.socket.handshake.get(names[name]) for name in headers}
        assert heard == headers


# Comparing


def _expected(recorded: Any, heard: Any, free: frozenset[str]) -> Any:
    """
    Return *recorded* as it may be heard today.

    Members that our relay adds to the frame may be there; the values of *free*
    members, at any depth, are those of the day.
    """
    wanted = _with_free_values(recorded, heard, free)
    added = {name: heard[name] for name in heard if name in ADDED_MEMBERS and name not in recorded}
    return wanted | added


def _with_free_values(recorded: Any, heard: Any, free: frozenset[str]) -> Any:
    match recorded, heard:
        case dict(), dict():
            return {
                name: heard[name]
                if name in free and name in heard
                else _with_free_values(value, heard.get(name), free)
                for name, value in recorded.items()
            }
        case list(), list() if len(recorded) == len(heard):
            return [_with_free_values(*pair, free) for pair in zip(recorded, heard, strict=True)]
        case _:
            return recorded


def _verifies(envelope: dict[str, Any]) -> bool:
    try:
        open_envelope(envelope)
    except ValueError:
        return False
    return True


# Texts


def joined(pieces: str | list[Any]) -> str:
    """Put a text together from its pieces."""
    if isinstance(pieces, str):
        return pieces
    return "".join(p if isinstance(p, str) else p[0] * p[1] for p in pieces)


def _frame_of(to: str | None, envelope: Mapping[str, Any]) -> bytes:
    if to is None:
        return json.dumps({"type": "broadcast", "envelope": envelope}).encode()
    return json.dumps({"type": "message", "to": to, "envelope": envelope}).encode()


def _key_name(name: str) -> str:
    """Return whose key a client has: A2 is a second socket of A, S2 is itself."""
    return name if name in KEYS else name.rstrip("2")


def _shortened(text: str) -> str:
    return text if len(text) <= 1500 else f"{text[:700]} … {text[-700:]}"


# Coming in


def _manners(
    *,
    path: str = "/",
    origin: str | None = None,
    extensions: str | None = None,
    subprotocols: str | None = None,
    answers_pings: bool = True,
) -> Manners:
    headers = {
        "Origin": origin,
        "Sec-WebSocket-Extensions": extensions,
        "Sec-WebSocket-Protocol": subprotocols,
    }
    given = tuple((name, value) for name, value in headers.items() if value is not None)
    return Manners(path, given, answers_pings)


async def _http_status(url: str, request: str) -> int | None:
    """Return the status of a plain request's answer; None where there is none within a second."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"{request} HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    try:
        async with asyncio.timeout(1.0):
            line = await reader.readline()
        return int(line.split()[1])
    except TimeoutError:
        return None
    finally:
        writer.transport.abort()
