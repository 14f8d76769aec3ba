"""
The tokens of HTTP sessions: who has proven a key, for how long, in a form that nobody can make.

A token is a JSON Web Token (RFC 7519) signed with HMAC-SHA256, as the reference
makes them. The relay's own secret is in its data directory and is renewed by
itself; the one before stays good for as long as tokens of it live. Which were revoked
is in ``revocations``.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec

from agora.errors import ConfigurationError
from agora.files import new_file
from agora.keys import PeerId, is_peer_id
from agora.relay.http.errors import not_registered
from agora.relay.http.revocations import Revocations

__all__ = ["Metadata", "Secrets", "Token", "Tokens"]


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a peer says of itself, for others to see; claimed, not proven."""

    version: (
        Annotated[str, msgspec.Meta(max_length=64, description="Which version of its program.")]
        | None
    ) = None
    capabilities: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=64)], ...],
        msgspec.Meta(max_length=32, description="What it can do, in words of its own."),
    ] = ()


class Token(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    The claims of a token; times in seconds since the Unix epoch, as RFC 7519 has them.

    Attributes:
        publicKey: Who has proven this key.
        jti: The token's own id, by which it is revoked.
        sid: The session for which it was made.
        iat: When it was made.
        exp: When it ends.
        name: The display name claimed with it.
        metadata: What else was claimed.
        isLegacy: Whether the relay has the private key, and answers as the reference.
    """

    publicKey: PeerId
    jti: str
    sid: str
    iat: int
    exp: int
    name: str | None = None
    metadata: Metadata | None = None
    isLegacy: bool = False


# Secrets


@dataclass(frozen=True, slots=True)
class _Secret:
    id: str
    value: bytes
    made_at: float


class Secrets:
    """
    What signs tokens, the current one first.

    Args:
        path: Where the relay keeps its own; None keeps them in memory.
        given: Those of the operator, who then renews them too; the first is the current one.
        max_age: Seconds after which one of its own is renewed.
        lifetime: Seconds that a token lives.
        clock: Seconds since the Unix epoch.

    Raises:
        ConfigurationError: When the file cannot be read, or holds something else.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        given: tuple[str, ...] = (),
        max_age: float,
        lifetime: float,
        clock: Callable[[], float],
    ) -> None:
        self._path = None if given else path
        self._max_age = max_age
        self._lifetime = lifetime
        self._clock = clock
        self._is_own = not given
        self._secrets = [_Secret(_id_of(one), one.encode(), 0.0) for one in given]
        if self._is_own:
            self._secrets = self._load()
            self.renew()

    @property
    def current(self) -> _Secret:
        """What signs now."""
        return self._secrets[0]

    def find(self, secret_id: str) -> _Secret | None:
        """Return the secret of a token; None when there is none (any more)."""
        return next((one for one in self._secrets if one.id == secret_id), None)

    def renew(self) -> None:
        """Make a new one if it is time, and forget those of which no token lives any more."""
        if not self._is_own:
            return
        now = self._clock()
        fresh = [one for one in self._secrets if now < one.made_at + self._max_age]
        # The one before is good until the last token that it signed has ended.
        old = [
            one
            for one in self._secrets
            if one not in fresh and now < one.made_at + self._max_age + self._lifetime
        ]
        made = [] if fresh else [_Secret(secrets.token_hex(4), secrets.token_bytes(32), now)]
        if made or len(fresh) + len(old) != len(self._secrets):
            self._save([*made, *fresh, *old])
        self._secrets = [*made, *fresh, *old]

    def _load(self) -> list[_Secret]:
        if self._path is None or not self._path.exists():
            return []
        try:
            entries = json.loads(self._path.read_text())["secrets"]
            return [
                _Secret(str(one["id"]), bytes.fromhex(one["secret"]), float(one["madeAt"]))
                for one in entries
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"cannot use {self._path}: {error!r}; without it every token ends, and clients "
                "register anew"
            ) from error

    def _save(self, kept: list[_Secret]) -> None:
        if self._path is None:
            return
        entries = [{"id": one.id, "secret": one.value.hex(), "madeAt": one.made_at} for one in kept]
        text = json.dumps({"secrets": entries}, indent=2) + "\n"
        with new_file(self._path, overwrite=True) as file:
            file.write(text.encode())


def _id_of(secret: str) -> str:
    return sha256(b"agora token secret " + secret.encode()).hexdigest()[:8]


# Tokens


class Tokens:
    """
    Makes tokens, and reads those that it made.

    Args:
        secrets: What signs them.
        revocations: Which are good no longer.
        lifetime: Seconds that a token lives.
        clock: Seconds since the Unix epoch.
    """

    def __init__(
        self,
        secrets: Secrets,
        revocations: Revocations,
        *,
        lifetime: float,
        clock: Callable[[], float],
    ) -> None:
        self._secrets = secrets
        self.revocations = revocations
        self._lifetime = lifetime
        self._clock = clock

    def issue(
        self,
        peer: PeerId,
        session: str,
        *,
        name: str | None = None,
        metadata: Metadata | None = None,
        is_legacy: bool = False,
    ) -> tuple[str, Token]:
        """Return a new token for *peer*, as text and as what it says."""
        now = self._clock()
        jti = f"{int(now * 1000)}-{secrets.token_hex(16)}"
        ends = int(now + self._lifetime)
        token = Token(peer, jti, session, int(now), ends, name, metadata, is_legacy)
        secret = self._secrets.current
        head = _encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": secret.id}).encode())
        signed = f"{head}.{_encode(msgspec.json.encode(token))}"
        return f"{signed}.{_encode(_sign(secret.value, signed))}", token

    def read(self, text: str) -> Token:
        """
        Return what a token says.

        Raises:
            ApiError: ``not_registered``, with the reason.
        """
        token = self._verified(text)
        if token is None:
            raise not_registered("invalid_token", "Invalid token")
        if token.exp <= self._clock():
            raise not_registered("token_expired", "Token expired")
        self.check_revoked(token)
        return token

    def check_revoked(self, token: Token) -> None:
        """
        Refuse a token that was good a moment ago, and may have been revoked meanwhile.

        Raises:
            ApiError: ``not_registered``, with the reason.
        """
        if token.jti in self.revocations:
            raise not_registered("token_revoked", "Token has been revoked")

    def _verified(self, text: str) -> Token | None:
        signed, _, signature = text.rpartition(".")
        head, _, body = signed.partition(".")
        secret = self._secret_of(head)
        if secret is None or not hmac.compare_digest(
            _encode(_sign(secret.value, signed)).encode(), signature.encode()
        ):
            return None
        try:
            token = _TOKEN.decode(_decode(body))
        except (ValueError, msgspec.MsgspecError):
            return None
        return token if is_peer_id(token.publicKey) else None

    def _secret_of(self, head: str) -> _Secret | None:
        """Return what must have signed a token with this head; one algorithm is known."""
        try:
            members = json.loads(_decode(head))
        except (ValueError, RecursionError):
            return None
        if not isinstance(members, Mapping) or members.get("alg") != "HS256":
            return None
        key_id = members.get("kid")
        return self._secrets.find(key_id) if isinstance(key_id, str) else None

    def tidy(self) -> None:
        """
        Renew the secret if it is time, and write down what was revoked; waits for the disk.

        Raises:
            OSError: When the disk does not take that; it is to be tried again.
        """
        self._secrets.renew()
        self.revocations.tidy()


_TOKEN = msgspec.json.Decoder(Token)


def _sign(secret: bytes, text: str) -> bytes:
    return hmac.digest(secret, text.encode(), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError(f"no base64url: {error}") from error
