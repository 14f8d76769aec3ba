"""
Proof of key: what each side signs when a peer registers, and for whom it counts.

::

    client                                relay
      │  register   nonce CN              │
      │ ────────────────────────────────► │  signs (CN, RN, key, "agora/1 challenge")
      │  challenge  nonce RN, signature   │
      │ ◄──────────────────────────────── │
      │  signs (RN, key, relay, audience, "agora/1 authenticate")
      │  authenticate  signature          │
      │ ────────────────────────────────► │

Each signature names its purpose and both parties, so neither can be used for
anything else; over HTTP the purposes are others, so that neither door takes
what was signed for the other. The *audience* is the host and port that the client dialled. The
relay compares it with names that it knows itself, never with what the
connection claims (such as a ``Host`` header): so a relay in the middle cannot
pass a proof on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from agora.canonical import canonical_text
from agora.errors import ConfigurationError
from agora.keys import KeyPair, PeerId, verify
from agora.plain_json import plain_text

__all__ = [
    "OVER_HTTP",
    "OVER_WEBSOCKET",
    "Purposes",
    "audience_of",
    "is_genuine_challenge",
    "local_audiences",
    "proven_audience",
    "public_audiences",
    "sign_challenge",
    "sign_proof",
]

_IMPLIED_PORTS = {"ws": 80, "http": 80, "wss": 443, "https": 443}

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
"""What a host may be called: letters, digits and hyphens, and the underscore of private names."""

_BRACKETS = re.compile(r"(.*@)?\[[^\]]*:[^\]]*\](:[0-9]*)?")
"""Where a URL may have brackets: around an IPv6 address, which has colons, and nothing else."""


# What is signed


@dataclass(frozen=True, slots=True)
class Purposes:
    """What the two signatures of a registration are for: a member of what is signed."""

    challenge: str
    authenticate: str


OVER_WEBSOCKET = Purposes("agora/1 challenge", "agora/1 authenticate")
OVER_HTTP = Purposes("agora/1 http challenge", "agora/1 http authenticate")


def sign_challenge(
    relay: KeyPair,
    *,
    client_nonce: str,
    nonce: str,
    public_key: PeerId,
    purposes: Purposes = OVER_WEBSOCKET,
) -> str:
    """Return the relay's signature: it is *relay* that asks, and it was asked just now."""
    purpose = purposes.challenge
    return relay.sign(_challenge(relay.peer_id, client_nonce, nonce, public_key, purpose))


def is_genuine_challenge(
    relay: PeerId,
    signature: str,
    *,
    client_nonce: str,
    nonce: str,
    public_key: PeerId,
    purposes: Purposes = OVER_WEBSOCKET,
) -> bool:
    """Tell whether *relay* signed this challenge, for this registration."""
    signed = _challenge(relay, client_nonce, nonce, public_key, purposes.challenge)
    return verify(relay, signature, signed)


def sign_proof(
    keys: KeyPair,
    *,
    audience: str,
    nonce: str,
    relay: PeerId,
    purposes: Purposes = OVER_WEBSOCKET,
) -> str:
    """Return the client's signature: it is the owner of *keys* who registers, at *audience*."""
    return keys.sign(_proof(keys.peer_id, audience, nonce, relay, purposes.authenticate))


def proven_audience(
    public_key: PeerId,
    signature: str,
    *,
    audiences: Iterable[str],
    nonce: str,
    relay: PeerId,
    said: str | None = None,
    purposes: Purposes = OVER_WEBSOCKET,
) -> str | None:
    """
    Return for which of *audiences* a proof is good; None when for none of them.

    *said* is what the client says that it signed: if it is one of them, it is tried first.
    """
    fits = (
        audience
        # A stable sort: the rest keep their order.
        for audience in sorted(audiences, key=lambda one: one != said)
        if verify(
            public_key,
            signature,
            _proof(public_key, audience, nonce, relay, purposes.authenticate),
        )
    )
    return next(fits, None)


def _challenge(
    relay: PeerId, client_nonce: str, nonce: str, public_key: PeerId, purpose: str
) -> bytes:
    return _canonical(
        clientNonce=client_nonce,
        nonce=nonce,
        publicKey=public_key,
        purpose=purpose,
        relay=relay,
    )


def _proof(public_key: PeerId, audience: str, nonce: str, relay: PeerId, purpose: str) -> bytes:
    return _canonical(
        audience=audience,
        nonce=nonce,
        publicKey=public_key,
        purpose=purpose,
        relay=relay,
    )


def _canonical(**members: str) -> bytes:
    # The short way where it can be taken, as for every join one is signed and one verified.
    return (plain_text(members) or canonical_text(members)).encode()


# Audiences: lower-case host, a colon, the port


def audience_of(url: str) -> str:
    """
    Return the audience of a URL: the host as it is looked up, and the port, always.

    >>> audience_of("wss://Relay.Example.org./agora"), audience_of("ws://[::1]:9470")
    ('relay.example.org:443', '[::1]:9470')

    Raises:
        ConfigurationError: When it is none of WebSocket or HTTP, or has no host or
            no port that could be dialled.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme not in _IMPLIED_PORTS:
            raise ValueError(f"it begins with none of {', '.join(_IMPLIED_PORTS)}")
        host, port = _place(parts)
    except ValueError as error:
        raise ConfigurationError(f"{url!r} names no host and port: {error}") from error
    return f"{host}:{port or _IMPLIED_PORTS[parts.scheme]}"


@lru_cache(maxsize=256)
def public_audiences(name: str, port: int) -> tuple[str, ...]:
    """
    Return the audiences that a public name of a relay stands for.

    A URL or ``host:port`` is one; a host alone is served on *port*, or by a proxy
    on one of the ports that URLs leave out.

    >>> public_audiences("wss://relay.example.org", 9470)
    ('relay.example.org:443',)
    >>> public_audiences("relay.example.org", 9470)
    ('relay.example.org:9470', 'relay.example.org:443', 'relay.example.org:80')

    Raises:
        ConfigurationError: When it names no host.
    """
    if "://" in name:
        return (audience_of(name),)
    is_bare_address = name.count(":") > 1 and not name.startswith("[")
    try:
        parts = urlsplit(f"//[{name}]" if is_bare_address else f"//{name}")
        if parts.path or parts.query or parts.fragment:
            raise ValueError("a host has no path")
        host, given = _place(parts)
    except ValueError as error:
        raise ConfigurationError(f"{name!r} names no host: {error}") from error
    ports = (given,) if given else (port, 443, 80)
    return tuple(dict.fromkeys(f"{host}:{one}" for one in ports))


@lru_cache(maxsize=256)  # asked for every connection, and nearly always the same
def local_audiences(address: str, port: int) -> tuple[str, ...]:
    """
    Return the audiences of an accepted socket: its own address, which nobody else chooses.

    >>> local_audiences("127.0.0.1", 9470)
    ('127.0.0.1:9470', 'localhost:9470')

    Empty where the address is not one of IP.
    """
    ip = _ip(address)
    if ip is None:
        return ()
    hosts = [_bracketed(ip)] + ["localhost"] * ip.is_loopback
    return tuple(f"{host}:{port}" for host in hosts)


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _place(parts: SplitResult) -> tuple[str, int | None]:
    """Return host and port of a URL, the port None where it is not there."""
    if parts.port == 0:
        raise ValueError("nobody can dial port 0")
    if "[" in parts.netloc and not _BRACKETS.fullmatch(parts.netloc):
        raise ValueError("brackets are for an IPv6 address")
    return _host(parts.hostname or ""), parts.port


def _host(host: str) -> str:
    """Return a host as it is compared: an address in its short form, or a name in A-labels."""
    if ip := _ip(host):
        return _bracketed(ip)
    # The codec also folds case, and takes the full stops of other scripts for dots.
    name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        raise ValueError(f"no host is called {name!r}")
    return name


def _ip(host: str) -> _Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None  # a name, not an address
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    # A socket of both families shows IPv4 as mapped; a zone says which way, not whereto.
    return ip.ipv4_mapped or ipaddress.IPv6Address(int(ip))


def _bracketed(ip: _Address) -> str:
    return f"[{ip}]" if ip.version == 6 else str(ip)
