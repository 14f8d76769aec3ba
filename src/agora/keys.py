"""
Who speaks: Ed25519 key pairs (RFC 8032) and the peer ids made of them.

A peer id is the public key itself: lower-case hex of its SubjectPublicKeyInfo
(RFC 8410). There is one spelling of each key and one of each signature. This
is the only module that knows which library does the arithmetic.

The rule kept here: a point in `REFUSED_POINTS` is refused before any library
sees it, for libraries differ about those.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NewType, Self, TypeGuard

from nacl._sodium import ffi, lib  # type: ignore[import-not-found]  # made of C, without types
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair, randombytes

from agora.errors import IdentityError

__all__ = [
    "PRIVATE_KEY_PREFIX",
    "PUBLIC_KEY_PREFIX",
    "REFUSED_POINTS",
    "KeyPair",
    "PeerId",
    "holds",
    "is_peer_id",
    "is_signature",
    "peer_id",
    "point_of",
    "to_verify",
    "verify",
]

PeerId = NewType("PeerId", str)
"""A checked public key: 88 lower-case hex digits that `is_peer_id` admits."""

PUBLIC_KEY_PREFIX: Final = "302a300506032b6570032100"
"""The DER of an Ed25519 SubjectPublicKeyInfo, up to the 32 bytes of the key."""

PRIVATE_KEY_PREFIX: Final = "302e020100300506032b657004220420"
"""The DER of an Ed25519 PKCS #8 key without attributes, up to the 32 bytes of the seed."""

_SEED_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_POINT_BYTES: Final = 32
_POINT_DIGITS: Final = 64

_PEER_ID: Final = re.compile(PUBLIC_KEY_PREFIX + "[0-9a-f]{64}")
_PRIVATE_KEY: Final = re.compile(PRIVATE_KEY_PREFIX + "[0-9a-f]{64}")


def _refused_points() -> frozenset[str]:
    """
    List the encodings of points that prove nothing, or are second names for a point.

    A point is written as its y, with the sign of x in the highest bit. Refused are
    the eight points of small order, as whom anybody can sign, and whatever
    RFC 8032 section 5.1.3 does not decode though libraries do: y not below p, and
    x = 0 with its sign set.
    """
    p = 2**255 - 19
    order_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
    small_order = [0, 1, p - 1, order_8, p - order_8]
    not_reduced = range(p, 2**255)
    return frozenset(
        (y | sign << 255).to_bytes(32, "little").hex()
        for y in [*small_order, *not_reduced]
        for sign in (0, 1)
    )


REFUSED_POINTS: Final = _refused_points()
"""The hex of 48 encodings that are neither a peer's key nor the first half of a signature."""


def is_peer_id(value: object) -> TypeGuard[PeerId]:
    """Tell whether *value* is a public key in its one spelling, and not a refused one."""
    return isinstance(value, str) and point_of(value) is not None


@lru_cache(maxsize=4096)
def point_of(text: str) -> bytes | None:
    """Return the 32 bytes of the key that *text* spells; None where it is no peer id."""
    # Remembered, because those who talk are looked at with every word of theirs.
    digits = text[len(PUBLIC_KEY_PREFIX) :]
    if _PEER_ID.fullmatch(text) is None or digits in REFUSED_POINTS:
        return None
    return bytes.fromhex(digits)


def peer_id(text: str) -> PeerId:
    """
    Give *text* back as a peer id.

    Raises:
        IdentityError: If it is not one.
    """
    if not is_peer_id(text):
        raise IdentityError("not a peer id: 88 lower-case hex digits of an Ed25519 public key")
    return text


def is_signature(value: object) -> TypeGuard[str]:
    """Tell whether *value* could be a signature: 128 lower-case hex digits."""
    return isinstance(value, str) and _signature_bytes(value) is not None


def _signature_bytes(text: str) -> bytes | None:
    """Return the 64 bytes that *text* spells in the way that counts; None for any other text."""
    try:
        spelled = bytes.fromhex(text)
    except ValueError:
        return None
    # Some ways to spell are read and would not be written: capitals, and blanks in between.
    return spelled if len(spelled) == _SIGNATURE_BYTES and spelled.hex() == text else None


def verify(peer_id: object, signature: object, data: bytes) -> bool:
    """
    Tell whether *signature* is *peer_id*'s over *data*, whatever the two may be.

    The signature must be 128 lower-case hex digits, and neither the key nor the
    signature's own point R may be a refused one. Pure Ed25519, without cofactor.
    """
    signed = to_verify(peer_id, signature, data)
    return signed is not None and holds(signed)


def to_verify(peer_id: object, signature: object, data: bytes) -> bytes | None:
    """
    Return what :func:`holds` needs to know of a signature; None for one that cannot hold.

    That is the key's 32 bytes, the signature's 64 and *data*, to be verified wherever there
    is time for it.
    """
    point = point_of(peer_id) if isinstance(peer_id, str) else None
    if point is None or not isinstance(signature, str):
        return None
    spelled = _signature_bytes(signature)
    if spelled is None or signature[:_POINT_DIGITS] in REFUSED_POINTS:
        return None
    return point + spelled + data


def holds(signed: bytes) -> bool:
    """Tell whether a signature holds that :func:`to_verify` has looked at."""
    size = len(signed) - _POINT_BYTES
    # Asked directly: the binding would copy the message out, for which nobody has a use.
    return bool(lib.crypto_sign_open(ffi.NULL, ffi.NULL, signed[_POINT_BYTES:], size, signed) == 0)


class KeyPair:
    """
    A private key and the peer id that belongs to it.

    Attributes:
        peer_id: The public key, by which others know the owner.
    """

    __slots__ = ("_secret_key", "peer_id")

    peer_id: PeerId

    def __init__(self, seed: bytes) -> None:
        """Make the key pair of *seed*, the 32 bytes that RFC 8032 calls the private key."""
        if len(seed) != _SEED_BYTES:
            raise IdentityError(f"a seed has {_SEED_BYTES} bytes, not {len(seed)}")
        public_key, self._secret_key = crypto_sign_seed_keypair(seed)
        self.peer_id = PeerId(PUBLIC_KEY_PREFIX + public_key.hex())

    @classmethod
    def generate(cls) -> Self:
        """Make a new key pair from the system's randomness."""
        return cls(randombytes(_SEED_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key pair of a 32-byte *seed*."""
        return cls(seed)

    @classmethod
    def from_hex(cls, public_key: str, private_key: str) -> Self:
        """
        Read a key pair from its two hex texts, as identity files hold them.

        Raises:
            IdentityError: If one is malformed, or they do not belong together.
        """
        if _PRIVATE_KEY.fullmatch(private_key) is None:
            raise IdentityError("not a private key: 96 lower-case hex digits of an Ed25519 key")
        pair = cls(bytes.fromhex(private_key[len(PRIVATE_KEY_PREFIX) :]))
        if pair.peer_id != peer_id(public_key):
            raise IdentityError("the public key does not belong to the private key")
        return pair

    @property
    def public_key(self) -> str:
        """The public key as hex: the same text as `peer_id`."""
        return self.peer_id

    @property
    def private_key(self) -> str:
        """The private key as hex, 96 digits. Whoever has it is this peer."""
        return PRIVATE_KEY_PREFIX + self._secret_key[:_SEED_BYTES].hex()

    def sign(self, data: bytes) -> str:
        """Sign *data*; the same data always gives the same 128 hex digits."""
        return crypto_sign(data, self._secret_key)[:_SIGNATURE_BYTES].hex()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.peer_id}>"
