"""
A relay that listens: sockets, TLS, the clock, start and stop. It holds no protocol rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from agora.codes import CloseCode
from agora.errors import ClosedError, ConfigurationError, MissingExtraError
from agora.identity import Identity
from agora.keys import KeyPair, PeerId
from agora.keys import peer_id as as_peer_id
from agora.mailbox import Mailbox, MailboxBounds, MemoryMailbox
from agora.mailbox.opening import Accident, open_mailbox
from agora.protocol.proof import local_audiences, public_audiences
from agora.protocol.relay.admission import Remembered
from agora.protocol.relay.router import RouterConfig
from agora.relay.certificates import load_certificate, renew_certificate
from agora.relay.config import RelayConfig
from agora.relay.connection import Listener, WebSocketConnection
from agora.relay.metrics import Metrics
from agora.relay.node import Node
from agora.relay.outlet import Outlet
from agora.relay.overview import Overview
from agora.relay.reloading import Change, compare
from agora.relay.taken_file import read_taken, write_taken
from agora.relay.turns import Turns
from agora.relay.verifier import InlineVerifier, ProcessVerifier, usable_cores
from agora.relay.writer import MailboxWriter, wait_done
from agora.sealing import now_ms

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

    from agora.relay.http.server import HttpServer
    from agora.relay.tracing import RelayTracer

__all__ = ["Relay"]

_log = logging.getLogger("agora.relay")


class Relay:
    """
    One relay node, to run or to embed.

    >>> async with Relay(port=0) as relay:  # doctest: +SKIP
    ...     print(relay.url)
    ws://127.0.0.1:54321

    Without a ``data_dir`` mailboxes are in memory and the relay's key is a new
    one each time; with one both are kept there, and no second relay can use it.

    Args:
        config: All settings; or give them by name instead.
        identity: The relay's own key, which answers peer-list requests.
        tracer_provider: Where spans go with the setting ``otel``: an OpenTelemetry
            ``TracerProvider``; one of its own unless given.
        listen_on: A socket that listens already, in place of ``host`` and ``port``; closed
            with the relay.
        settings: Fields of :class:`~agora.relay.config.RelayConfig`.

    Raises:
        ConfigurationError: When a setting cannot be, or the data directory is in use.
        MissingExtraError: From :meth:`start`, when what a setting needs is not installed.
        OSError: From :meth:`start`, when the address cannot be listened on.
    """

    def __init__(
        self,
        config: RelayConfig | None = None,
        *,
        identity: KeyPair | None = None,
        tracer_provider: TracerProvider | None = None,
        listen_on: socket.socket | None = None,
        **settings: Any,
    ) -> None:
        if config is not None and settings:
            raise ConfigurationError("give either a config or settings by name, not both")
        self._config = config or _configure(settings)
        self._identity = identity
        self._tracer_provider = tracer_provider
        self._tracer: RelayTracer | None = None
        self._listen_on = listen_on
        self._connections: set[WebSocketConnection] = set()
        self._all_gone = asyncio.Event()
        self._node: Node | None = None
        self._writer: MailboxWriter | None = None
        self._verifier: InlineVerifier | ProcessVerifier = InlineVerifier()
        self._metrics = Metrics()
        self._admin_token = self._config.admin_token or secrets.token_urlsafe(24)
        self._overview: Overview | None = None
        self._server: asyncio.Server | None = None
        self._listener: Listener | None = None
        self._tls: ssl.SSLContext | None = None
        self._http: HttpServer | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._pulser: asyncio.TimerHandle | None = None
        self._pulse_due = 0.0
        self._changing = asyncio.Lock()  # one start or stop at a time
        self._is_closed = False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        address: tuple[Any, ...] = self._listening.sockets[0].getsockname()
        return int(address[1])

    @property
    def url(self) -> str:
        """Where clients connect, once started."""
        return self._url("ws", self.port)

    @property
    def http_url(self) -> str | None:
        """Where the HTTP API is, once started; None where HTTP is off."""
        return None if self._http is None else self._url("http", self._http.port)

    def _url(self, scheme: str, port: int) -> str:
        secure = "s" if self._config.tls_cert else ""
        host = self._config.host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
        return f"{scheme}{secure}://{f'[{reachable}]' if ':' in reachable else reachable}:{port}"

    @property
    def peer_id(self) -> PeerId:
        """The relay's own peer id, once started."""
        if self._identity is None:
            raise ClosedError("the relay has not been started")
        return self._identity.peer_id

    @property
    def config(self) -> RelayConfig:
        """The settings that it goes by now."""
        return self._config

    @property
    def connection_count(self) -> int:
        """How many connections are open, registered or not."""
        return len(self._connections)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of event happened since the start."""
        return dict(self._node.counts) if self._node is not None else {}

    @property
    def admin_token(self) -> str:
        """What gives access to the figures that name peers: as set, or made for this run."""
        return self._admin_token

    @property
    def overview(self) -> Overview:
        """What its operator sees of it, once started."""
        if self._overview is None:
            raise ClosedError("the relay has not been started")
        return self._overview

    async def start(self) -> None:
        """
        Open the mailboxes and listen. Doing it twice is harmless.

        Raises:
            ClosedError: When it was closed before; make a new one.
        """
        async with self._changing:
            if self._is_closed:
                raise ClosedError("a closed relay does not start again: make a new one")
            if self._server is None:
                await self._start()

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._identity is None:
            self._identity = await asyncio.to_thread(self._load_identity)
        identity = self._identity
        self._tracer = await asyncio.to_thread(self._make_tracer, identity.peer_id)
        mailbox = await asyncio.to_thread(self._open_mailbox)
        known = await asyncio.to_thread(self._router_config, identity, mailbox)
        self._writer = MailboxWriter(mailbox, loop.call_soon_threadsafe, self._metrics.commits)
        self._verifier = self._make_verifier(loop)
        self._node = Node(
            self._config,
            known,
            writer=self._writer,
            verifier=self._verifier,
            clock=time.monotonic,
            wall_ms=now_ms,
            tally=self._metrics.tally,
            tracer=self._tracer,
        )
        self._overview = self._make_overview(self._node, self._writer, identity)
        try:
            self._tls = tls = await asyncio.to_thread(self._load_tls)
            if self._serves_http:  # before it listens: who can connect finds all of it there
                await asyncio.to_thread(_import_http)
            self._listener = self._make_listener(self._node)
            self._server = await loop.create_server(
                self._accept,
                **self._place(),
                ssl=tls,
                ssl_handshake_timeout=self._config.register_timeout if tls else None,
                backlog=_BACKLOG,
            )
            self._http = await self._serve_http(self._node, self._writer, tls)
        except BaseException:
            if self._server is not None:
                self._server.close()
                self._server = None
            await self._keep_taken(self._node, self._writer)  # for the next one: it was read once
            await asyncio.to_thread(self._writer.close)
            raise
        self._tick()
        self._pulse()
        _log.info("listening", extra={"fields": {"url": self.url, "relay": identity.peer_id}})
        if self._http is not None:
            _log.info("serving HTTP", extra={"fields": {"url": self.http_url}})

    @property
    def _serves_http(self) -> bool:
        return self._config.http or self._config.http_port is not None

    async def _serve_http(
        self, node: Node, writer: MailboxWriter, tls: ssl.SSLContext | None
    ) -> HttpServer | None:
        """Open the second door, where it is wanted."""
        config, wanted = self._config, self._config.http_port
        if not self._serves_http:
            return None
        port = wanted if wanted is not None else self._port_above()
        make = _import_http()
        http = await make(
            config,
            node,
            relay=self.peer_id,
            writer=writer,
            audiences=lru_cache(self._audiences),
            overview=self.overview,
            admin_token=self._admin_token,
            tls=tls,
            is_welcome=self._has_room,
        )
        try:
            await http.start(config.host, port, backlog=_BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            if wanted is not None:
                text = f"cannot serve HTTP on port {port} of {config.host}: {why}; "
                raise ConfigurationError(f"{text}give another --http-port") from error
            fields = {"port": port, "error": why, "hint": "--http-port names another"}
            _log.warning("serving no HTTP", extra={"fields": fields})
            return None
        return http

    def _port_above(self) -> int:
        """Return where HTTP is looked for, unless another port is named."""
        return self._config.port and min(self._config.port + 1, 65_535)

    def _has_room(self) -> bool:
        of_http = len(self._http) if self._http is not None else 0
        return len(self._connections) + of_http < self._config.max_connections

    async def reload(self, config: RelayConfig) -> Change:
        """
        Go by other settings, as far as that is possible without a restart; sessions stay.

        The certificate is read anew also where it has the same name. When each
        setting counts is said in the settings' own table.

        Returns:
            What has changed, and what waits for a restart.

        Raises:
            ConfigurationError: When it cannot be; then all is as it was before.
            ClosedError: When the relay is not running.
        """
        async with self._changing:
            change = compare(self._config, config)
            if self._node is None or self._is_closed:
                raise ClosedError("the relay is not running")
            if self._tls is not None and (chain := change.config.tls_cert):
                key = change.config.tls_key
                await asyncio.to_thread(renew_certificate, self._tls, chain, key)
            self._config = change.config
            if self._listener is not None:
                self._listener = replace(self._listener, **_of_listener(change.config))
            self._node.change_limits(change.config)
            self.overview.limits = change.config
            if self._http is not None:
                await self._http.change_config(change.config)
            return change

    async def close(self) -> None:
        """
        Stop gracefully: take nothing new, finish what is written, say "going away".

        Mail being stored is committed and its sender told; then sessions are
        closed with 1001 and have ``drain_timeout`` seconds to take what was
        written to them. Doing it twice is harmless; cancelled, it drops them at once.
        """
        async with self._changing:
            was_closed, self._is_closed = self._is_closed, True
            if self._server is not None and not was_closed:
                await self._stop(self._server)

    async def _stop(self, server: asyncio.Server) -> None:
        assert self._node is not None  # made before the server, as the writer
        assert self._writer is not None
        try:
            await self._take_nothing_new(server, self._node)
            await self._settle_stores(self._writer)
            self._node.close_all(CloseCode.GOING_AWAY)
            await asyncio.gather(self._wait_gone(), self._wait_answered())
        finally:
            if self._http is not None:
                self._http.drop_all()
            for connection in list(self._connections):
                connection.abort()
            await self._keep_taken(self._node, self._writer)
            await asyncio.to_thread(self._writer.close)
            self._verifier.close()
            if self._tracer is not None:
                await asyncio.to_thread(self._tracer.close)
        with contextlib.suppress(TimeoutError):  # TLS handshakes hold it up from Python 3.12 on
            async with asyncio.timeout(_LINGER):
                await server.wait_closed()
        _log.info("stopped", extra={"fields": {}})

    async def _take_nothing_new(self, server: asyncio.Server, node: Node) -> None:
        try:
            await asyncio.sleep(_A_TURN)  # who is accepted already is a connection then, to close
        finally:
            server.close()
            for timer in (self._ticker, self._pulser):
                if timer:
                    timer.cancel()
            for connection in list(self._connections):
                connection.abort_handshake()
            if self._http is not None:
                self._http.begin_stop()
            node.take_nothing_more()

    @property
    def _listening(self) -> asyncio.Server:
        if self._server is None or not self._server.sockets:
            raise ClosedError("the relay is not listening")
        return self._server

    async def _settle_stores(self, writer: MailboxWriter) -> None:
        """Wait until all that is being stored now is committed and answered."""
        await wait_done(writer, lambda mailbox: None)

    async def _keep_taken(self, node: Node, writer: MailboxWriter) -> None:
        """Write down what was taken lately, behind all that was stored of it."""
        if (path := self._taken_path) is None:
            return
        taken = node.taken()
        last = await wait_done(writer, lambda mailbox: mailbox.last_position())
        if not isinstance(last, Exception):
            write = partial(write_taken, last_position=last, now_ms=now_ms())
            await asyncio.to_thread(write, path, taken)

    async def _wait_answered(self) -> None:
        if self._http is not None:
            await self._http.wait_answered(self._config.drain_timeout)

    async def _wait_gone(self) -> None:
        if self._connections:
            self._all_gone.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.drain_timeout):
                    await self._all_gone.wait()

    def _place(self) -> dict[str, Any]:
        if self._listen_on is not None:
            return {"sock": self._listen_on}
        return {"host": self._config.host, "port": self._config.port}

    def _accept(self) -> WebSocketConnection:
        assert self._listener is not None  # made before the server
        return WebSocketConnection(self._listener)

    def _make_listener(self, node: Node) -> Listener:
        return Listener(
            node=node,
            outlet=Outlet(asyncio.get_running_loop().call_soon),
            **_of_listener(self._config),
            read_buffer=memoryview(bytearray(_READ_AT_ONCE)),
            turns=Turns(),
            traffic=self._metrics.websocket,
            is_welcome=self._has_room,
            opened=self._remember,
            closed=self._forget,
            audiences=lru_cache(self._audiences),
        )

    def _audiences(self, address: str, port: int) -> tuple[str, ...]:
        """Return what this relay is called on a connection to its own *address* and *port*."""
        names = (public_audiences(name, port) for name in self._config.public_name)
        return (*(one for audiences in names for one in audiences), *local_audiences(address, port))

    def _remember(self, connection: WebSocketConnection) -> None:
        self._connections.add(connection)
        if self._is_closed:
            connection.abort()  # it was accepted while the relay stopped

    def _forget(self, connection: WebSocketConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_gone.set()

    def _tick(self) -> None:
        assert self._node is not None  # started
        # First the next one, so that a fault in this one does not stop the clock.
        self._ticker = asyncio.get_running_loop().call_later(self._tick_interval, self._tick)
        self._node.tick()
        self._verifier.look_after()
        self.overview.tick()

    def _pulse(self) -> None:
        assert self._node is not None  # started
        now = time.monotonic()
        if self._pulse_due:
            self._metrics.lag.observe(max(0.0, now - self._pulse_due))
        self._pulse_due = now + self._pulse_interval
        self._pulser = asyncio.get_running_loop().call_later(self._pulse_interval, self._pulse)
        self._node.pulse()

    @property
    def _pulse_interval(self) -> float:
        wanted = min(self._config.presence_interval, self._config.ack_timeout / 4)
        return min(_PULSE, max(_LEAST_PULSE, wanted))

    @property
    def _tick_interval(self) -> float:
        periods: list[float] = [1.0, self._config.register_timeout / 4]
        if self._config.heartbeat_interval:
            periods.append(self._config.heartbeat_interval / 4)
        return min(periods)

    def _make_verifier(self, loop: asyncio.AbstractEventLoop) -> InlineVerifier | ProcessVerifier:
        counted = self._metrics.verifications
        # On Windows an event loop looks at no sockets but its own.
        if not self._config.verify_processes or usable_cores() == 1 or sys.platform == "win32":
            return InlineVerifier(counted)
        return ProcessVerifier(self._config.verify_processes, loop, counted)

    def _make_tracer(self, own: PeerId) -> RelayTracer | None:
        if not self._config.otel:
            return None
        # Imported by those alone who want it, as it takes megabytes.
        tracing = import_module("agora.relay.tracing")
        tracer: RelayTracer = tracing.RelayTracer.start(self._tracer_provider, own)
        return tracer

    def _make_overview(self, node: Node, writer: MailboxWriter, identity: KeyPair) -> Overview:
        in_memory = self._config.memory or self._config.data_dir is None
        return Overview(
            node,
            self._metrics,
            writer=writer,
            verifier=self._verifier,
            limits=self._config,
            relay=identity.peer_id,
            data_dir=None if in_memory else self._config.data_dir,
            is_listening=lambda: self._server is not None and self._server.is_serving(),
        )

    def _load_identity(self) -> KeyPair:
        if self._config.data_dir is None:
            return Identity.generate()
        return Identity.load_or_create(self._config.data_dir / "relay-identity.json")

    def _open_mailbox(self) -> Mailbox:
        bounds = MailboxBounds.of(self._config)
        if self._config.memory or self._config.data_dir is None:
            return MemoryMailbox(bounds)
        opened = open_mailbox(self._config.data_dir, bounds)
        if opened.accident is not None:
            _report(opened.accident)
        return opened.mailbox

    def _router_config(self, identity: KeyPair, mailbox: Mailbox) -> RouterConfig:
        return RouterConfig(
            identity=identity,
            envelopes=self._config.policy,
            proof=self._config.proof_policy,
            mailboxes=self._config.mailbox_policy,
            verify=self._config.verify_policy,
            storage_peers=tuple(as_peer_id(text) for text in self._config.storage_peers),
            pins=mailbox.pins(),
            last_position=mailbox.last_position(),
            taken=self._read_taken(mailbox),
        )

    @property
    def _taken_path(self) -> Path | None:
        """Where is kept what was taken; None where mail is in memory alone, too."""
        folder = None if self._config.memory else self._config.data_dir
        return None if folder is None else folder / "taken-ids"

    def _read_taken(self, mailbox: Mailbox) -> Remembered | None:
        if self._taken_path is None:
            return None
        last_position = mailbox.last_position()
        return read_taken(self._taken_path, last_position=last_position, now_ms=now_ms())

    def _load_tls(self) -> ssl.SSLContext | None:
        if self._config.tls_cert is None:
            return None
        return load_certificate(self._config.tls_cert, self._config.tls_key)


def _of_listener(config: RelayConfig) -> dict[str, Any]:
    """Return what the settings say of a connection before it is one."""
    return {
        "max_frame_bytes": config.max_frame_bytes,
        "handshake_timeout": config.register_timeout,
        "close_timeout": max(_CLOSE_TIMEOUT, config.drain_timeout),
    }


_READ_AT_ONCE = 8_192
"""Bytes of one connection before the others have their turn: a flood delays them by little."""

_PULSE, _LEAST_PULSE = 0.1, 0.01
"""Seconds between two looks at what is due: unacked mail, gathered presence."""

_CLOSE_TIMEOUT = 5.0
"""Seconds a client has to answer a close before the connection is dropped."""

_LINGER = 1.0
"""Seconds that a stop waits for connections that have not shown themselves yet."""

_A_TURN = 1e-6
"""
Seconds until the next turn of the loop, behind all that sockets have in this one.

A server that is closed between asyncio's ``accept`` and the task it makes for it loses the
connection without closing it (CPython issue 109564; not with uvloop). A timer comes after
the sockets of its turn; ``sleep(0)`` would come before.
"""

_BACKLOG = min(4096, max(128, socket.SOMAXCONN))
"""Connections that may wait to be accepted, when thousands come back at once."""


def _import_http() -> Callable[..., Awaitable[HttpServer]]:
    """Return what opens the HTTP door: a quarter of a second and some megabytes to import."""
    try:
        from agora.relay.http.server import make_server
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name} is not installed: install agora-relay[relay] to serve HTTP"
        ) from error
    return make_server


def _report(accident: Accident) -> None:
    """Say loudly that the mailboxes were damaged, and where the rest of them is."""
    fields: dict[str, str | int] = {
        "why": accident.why,
        "set_aside": str(accident.set_aside),
        "hint": "what could not be read again is only in the file set aside; keys whose pins "
        "are lost can be registered without proof until they prove themselves again",
    }
    if accident.rescued is not None:
        fields |= asdict(accident.rescued)
    _log.error("mailbox was damaged", extra={"fields": fields})


def _configure(settings: dict[str, Any]) -> RelayConfig:
    try:
        return RelayConfig(**settings)
    except TypeError as error:
        raise ConfigurationError(f"unknown setting: {error}") from error
