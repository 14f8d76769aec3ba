"""
The settings of a relay: one frozen dataclass, read once at the door and handed down.

Flags win over the environment, the environment over a ``.env`` file in the
working directory, that over the defaults. The names are the reference's where
it has them (``AGORA_PORT``, ``AGORA_RATE_LIMIT_ENABLED`` …).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from agora.errors import ConfigurationError
from agora.keys import is_peer_id
from agora.limits import Limits
from agora.protocol.proof import public_audiences
from agora.protocol.relay.policies import (
    EnvelopePolicy,
    MailboxPolicy,
    ProofPolicy,
    VerifyPolicy,
)
from agora.settings import Effect, check_setting, setting

__all__ = [
    "SETTINGS",
    "LogConfig",
    "Network",
    "RelayConfig",
    "environment_names",
    "from_environment",
    "read_setting",
    "unknown_names",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, kw_only=True)
class RelayConfig(Limits):
    """
    Everything that can be set on a relay: where it listens, what it keeps, what it admits.

    Raises:
        ConfigurationError: When a value is outside its bounds, or two do not fit together.
    """

    host: str = setting(
        "127.0.0.1",
        unit="",
        help="address to listen on; 0.0.0.0 or :: opens it to the network",
        reason="a relay that nobody has secured yet serves its own machine only",
    )
    port: int = setting(
        9470,
        unit="",
        help="port to listen on; 0 takes a free one",
        reason="the port agents expect",
        minimum=0,
        maximum=65_535,
    )
    http: bool = setting(
        False,
        unit="",
        help="serve HTTP too, at the port above --port unless --http-port says where",
        reason="an embedded relay opens no port that nobody asked for",
        overflow="where that port is taken the relay does without, and says so",
    )
    http_port: int | None = setting(
        None,
        unit="",
        help="port to serve HTTP on; 0 takes a free one",
        reason="one above the port for WebSockets",
        minimum=0,
        maximum=65_535,
    )
    data_dir: Path | None = setting(
        None,
        unit="",
        help="folder for mailboxes and the relay's own key",
        reason="kept across restarts",
    )
    memory: bool = setting(
        False,
        unit="",
        help="keep mailboxes in memory alone; the relay's own key is still kept",
        reason="mail should survive a restart",
    )
    storage_peers: tuple[str, ...] = setting(
        (),
        unit="peer ids",
        help="peers that have a mailbox here, comma-separated",
        reason="keys are free: a mailbox for everyone is a disk for everyone",
    )
    mailboxes: str = setting(
        "proven",
        unit="",
        help="who has a mailbox: proven (every key that has proven itself here, and the storage "
        "peers), listed (the storage peers alone), none",
        reason="an agent that sleeps gets its mail without anyone's doing",
        choices=tuple(MailboxPolicy),
    )
    proof: str = setting(
        "optional",
        unit="",
        help="who may register: optional (a key that never proved itself here may do without), "
        "required (proven keys alone)",
        reason="clients of the reference cannot prove their key",
        choices=tuple(ProofPolicy),
    )
    public_name: tuple[str, ...] = setting(
        (),
        unit="",
        help="names under which clients reach this relay, comma-separated: host, host:port or "
        "URL; its own address and localhost are known without",
        reason="a proof of key counts only for a relay that the client meant",
    )
    envelopes: str = setting(
        "strict",
        unit="",
        help="envelopes to take: strict (from and to, verified), legacy (also sender, verified), "
        "open (anything, unverified)",
        reason="what today's clients sign",
        choices=tuple(EnvelopePolicy),
    )
    verify: str = setting(
        "every",
        unit="",
        help="whose signatures to verify: every (of all messages), session (of sessions that have "
        "not proven their key; of the others the sender and the id are checked)",
        reason="a relay carries nothing forged; recipients verify all the same",
        choices=tuple(VerifyPolicy),
    )
    verify_processes: int = setting(
        1,
        unit="processes",
        help="processes that verify signatures beside the event loop, started when there is "
        "enough to do; 0 for none",
        reason="one does more than half of what a second core can",
        overflow="the event loop verifies too",
        minimum=0,
        maximum=64,
    )
    tls_cert: Path | None = setting(
        None,
        unit="",
        help="certificate chain (PEM) for wss://",
        reason="a proxy in front may do it instead",
        effect=Effect.NEW_CONNECTIONS,
    )
    tls_key: Path | None = setting(
        None,
        unit="",
        help="private key (PEM) of the certificate, without a passphrase",
        reason="goes with tls_cert",
        effect=Effect.NEW_CONNECTIONS,
    )
    allowed_origins: tuple[str, ...] = setting(
        ("*",),
        unit="",
        help="web pages that may use the HTTP API, by their origins, comma-separated; * for all",
        reason="a token is no cookie: no page has one that was not given to it",
        effect=Effect.NEW_CONNECTIONS,
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        unit="",
        help="addresses or networks of proxies whose X-Forwarded-For is believed, comma-separated",
        reason="anybody can write that header; rates count by address",
        effect=Effect.NEW_CONNECTIONS,
    )
    jwt_secret: tuple[str, ...] = setting(
        (),
        unit="",
        help="secrets that sign HTTP tokens, comma-separated: the first signs, all are good; give "
        "them by the environment, as everyone on a machine sees its command lines",
        reason="one of the relay's own, in its data directory, which it renews by itself",
    )
    jwt_secret_max_age: float = setting(
        2_592_000.0,
        unit="s",
        help="age at which the relay renews its own secret; tokens of the old one stay good",
        reason="a month: what leaked long ago is worth nothing",
        minimum=60.0,
    )
    token_lifetime: float = setting(
        3_600.0,
        unit="s",
        help="how long an HTTP token is good",
        reason="the reference's; a new one costs one signature",
        minimum=1.0,
    )
    rest_private_keys: bool = setting(
        False,
        unit="",
        help="take private keys by HTTP and sign for their owners, as the reference does",
        reason="whoever has a private key is its owner: it should not travel",
    )
    drain_timeout: float = setting(
        5.0,
        unit="s",
        help="time a graceful stop gives clients to take what was written to them",
        reason="orchestrators kill after ten",
        minimum=0.0,
        effect=Effect.AT_ONCE,
    )
    otel: bool = setting(
        False,
        unit="",
        help="trace messages with OpenTelemetry, exported by OTLP over HTTP to where the variables "
        "OTEL_* say; needs agora-relay[otel]",
        reason="it costs every message more than all else that is done for it",
    )
    admin_token: str = setting(
        "",
        unit="",
        help="who has it may see the dashboard's figures and /admin/overview, at least 16 "
        "characters; give it by the environment, as everyone on a machine sees its command lines",
        reason="nobody can guess it or leave it lying about; it is printed at the start",
    )

    def __post_init__(self) -> None:
        # In Python a path may be a string, and a list as good as a tuple.
        for declared in fields(self):
            object.__setattr__(self, declared.name, _normal(declared, getattr(self, declared.name)))
        super().__post_init__()
        _check_storage_peers(self.storage_peers)
        for name in self.public_name:
            public_audiences(name, self.port or 1)
        _check_admin_token(self.admin_token)
        for proxy in self.trusted_proxies:
            _read_network(proxy)
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigurationError("tls_cert and tls_key go together: one of them is missing")

    @property
    def proxies(self) -> tuple[Network, ...]:
        """Whose word on where a request comes from is believed."""
        return tuple(map(_read_network, self.trusted_proxies))

    @property
    def policy(self) -> EnvelopePolicy:
        """Which envelopes are taken."""
        return EnvelopePolicy(self.envelopes)

    @property
    def proof_policy(self) -> ProofPolicy:
        """Who may register."""
        return ProofPolicy(self.proof)

    @property
    def verify_policy(self) -> VerifyPolicy:
        """Whose signatures are verified."""
        return VerifyPolicy(self.verify)

    @property
    def mailbox_policy(self) -> MailboxPolicy:
        """Who has a mailbox."""
        return MailboxPolicy(self.mailboxes)


@dataclass(frozen=True, kw_only=True)
class LogConfig:
    """How the process of a relay logs, on standard error; an embedded relay leaves that alone."""

    log_level: str = setting(
        "info",
        unit="",
        help="least level to log: debug tells of every message, by its ids",
        reason="who comes and goes, and what is refused",
        choices=("debug", "info", "warning", "error"),
        effect=Effect.AT_ONCE,
    )
    log_json: bool = setting(
        False,
        unit="",
        help="one JSON object per line",
        reason="a person reads it first",
        effect=Effect.AT_ONCE,
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            check_setting(declared, getattr(self, declared.name))


def _in_reading_order() -> dict[str, Field[Any]]:
    bounds = {declared.name for declared in fields(Limits)}
    declared = sorted(fields(RelayConfig), key=lambda declared: declared.name in bounds)
    return {declared.name: declared for declared in (*declared, *fields(LogConfig))}


SETTINGS = _in_reading_order()
"""Every setting of ``agora relay`` by its name: where it listens, what it admits, how it logs."""

_ALIASES = {
    "data_dir": "AGORA_STORAGE_DIR",
    "jwt_secret": "AGORA_RELAY_JWT_SECRET",
    "token_lifetime": "AGORA_JWT_EXPIRY_SECONDS",
}
"""The reference's names for what has another name here."""


def environment_names(declared: Field[Any]) -> list[str]:
    """Return the environment variables of a setting; the first that is set counts."""
    name = declared.metadata["env"] or f"AGORA_{declared.name.upper()}"
    return [name, *filter(None, [_ALIASES.get(declared.name)])]


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the settings that *environ* gives, by name. An empty variable gives none.

    Raises:
        ConfigurationError: When one cannot be; the message names the variable.
    """
    found = {}
    for declared in SETTINGS.values():
        name = next((name for name in environment_names(declared) if environ.get(name)), None)
        if name is None:
            continue
        try:
            found[declared.name] = read_setting(declared, environ[name])
        except ConfigurationError as error:
            raise ConfigurationError(f"{name}: {error}") from error
    return found


def unknown_names(names: Iterable[str]) -> dict[str, str | None]:
    """
    Return which of *names* look like variables of ours and are none, each with what was meant.

    >>> unknown_names(["AGORA_PROT", "AGORA_PORT", "PATH"])
    {'AGORA_PROT': 'AGORA_PORT'}
    """
    ours = [name for declared in SETTINGS.values() for name in environment_names(declared)]
    unknown = [name for name in names if name.startswith("AGORA_")]
    return {
        name: next(iter(get_close_matches(name, ours, n=1)), None)
        for name in unknown
        if name not in ours and name not in _OF_CLIENTS
    }


_OF_CLIENTS = {"AGORA_CONFIG", "AGORA_CONFIG_DIR", "AGORA_KNOWN_RELAYS", "AGORA_RELAY_URL"}
"""Variables of the other commands."""


def read_setting(declared: Field[Any], text: str) -> Any:
    """
    Return what the text of one setting means.

    Raises:
        ConfigurationError: When it cannot be read, or the setting cannot be that.
    """
    try:
        value = _READERS[str(declared.type)](text)
    except ValueError as error:
        raise ConfigurationError(str(error)) from error
    check_setting(declared, value)
    if declared.name == "storage_peers":
        _check_storage_peers(value)
    if declared.name == "admin_token":
        _check_admin_token(value)
    if declared.name == "public_name":
        for name in value:
            public_audiences(name, 1)
    if declared.name == "trusted_proxies":
        for proxy in value:
            _read_network(proxy)
    return value


def _read_bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _read_int(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no whole number") from error


def _read_float(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no number") from error


def _read_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _read_path(text: str) -> Path:
    return Path(text).expanduser()


_READERS: Mapping[str, Callable[[str], Any]] = {
    "bool": _read_bool,
    "int": _read_int,
    "int | None": _read_int,
    "float": _read_float,
    "str": str,
    "tuple[str, ...]": _read_list,
    "Path | None": _read_path,
}
"""How a setting is read, by its type as it is written in the table."""


def _normal(declared: Field[Any], value: Any) -> Any:
    if _READERS[str(declared.type)] is _read_path and isinstance(value, str | os.PathLike):
        return Path(value)
    return tuple(value) if isinstance(value, list) else value


def _check_admin_token(token: str) -> None:
    # The length alone: what was given may be in a log soon.
    if token and len(token) < _LEAST_TOKEN:
        raise ConfigurationError(
            f"admin_token of {len(token)} characters is shorter than {_LEAST_TOKEN}"
        )


_LEAST_TOKEN = 16
"""Characters of an admin token that nobody guesses, if somebody has drawn them."""


def _read_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigurationError(f"trusted_proxies holds {text!r}: {error}") from error


def _check_storage_peers(peers: tuple[str, ...]) -> None:
    for peer in peers:
        if not is_peer_id(peer):
            raise ConfigurationError(f"storage_peers holds {peer!r}, which is no peer id")
