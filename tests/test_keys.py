"""
Key pairs, peer ids and signatures, with OpenSSL as the second opinion.

The curve's arithmetic at the end is naive on purpose: it finds the points that
`REFUSED_POINTS` lists, and makes the signatures that libraries quarrel about.
"""

from __future__ import annotations

import itertools
from functools import cache
from hashlib import sha512

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from agora.errors import IdentityError
from agora.keys import (
    PUBLIC_KEY_PREFIX,
    REFUSED_POINTS,
    KeyPair,
    is_peer_id,
    peer_id,
    verify,
)

SEED = bytes(range(32))
A = "302a300506032b657003210003a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
A_PRIVATE = "302e020100300506032b657004220420" + SEED.hex()

keys = st.binary(min_size=32, max_size=32)


def openssl_accepts(public_key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def libsodium_accepts(public_key: bytes, signature: bytes, data: bytes) -> bool:
    try:
        crypto_sign_open(signature + data, public_key)
    except BadSignatureError:
        return False
    return True


# Key pairs


def test_a_seed_gives_the_key_pair_of_the_reference() -> None:
    pair = KeyPair.from_seed(SEED)

    assert pair.peer_id == pair.public_key == A
    assert pair.private_key == A_PRIVATE


@pytest.mark.parametrize(
    ("seed", "public", "message", "signature"),
    [
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ],
)
def test_signatures_are_those_of_rfc_8032(
    seed: str, public: str, message: str, signature: str
) -> None:
    pair = KeyPair.from_seed(bytes.fromhex(seed))

    assert pair.peer_id == PUBLIC_KEY_PREFIX + public
    assert pair.sign(bytes.fromhex(message)) == signature
    assert verify(pair.peer_id, signature, bytes.fromhex(message))


def test_a_generated_pair_is_new_and_can_be_written_and_read() -> None:
    pair = KeyPair.generate()

    assert pair.peer_id != KeyPair.generate().peer_id
    assert KeyPair.from_hex(pair.public_key, pair.private_key).peer_id == pair.peer_id


def test_keys_are_written_as_openssl_writes_their_der() -> None:
    pair = KeyPair.generate()
    private = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(pair.private_key[32:]))

    public_der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    private_der = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    assert (pair.public_key, pair.private_key) == (public_der.hex(), private_der.hex())


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(IdentityError, match=f"not {length}"):
        KeyPair.from_seed(bytes(length))


@pytest.mark.parametrize(
    ("public_key", "private_key"),
    [
        (KeyPair.from_seed(bytes(32)).public_key, A_PRIVATE),
        (A.upper(), A_PRIVATE),
        (A, A_PRIVATE.upper()),
        (A + "00", A_PRIVATE),
        (A, A_PRIVATE + "\n"),
        (A, A_PRIVATE[32:]),
        (A_PRIVATE, A),
        ("", ""),
    ],
)
def test_keys_that_are_malformed_or_strangers_are_refused(
    public_key: str, private_key: str
) -> None:
    with pytest.raises(IdentityError):
        KeyPair.from_hex(public_key, private_key)


def test_neither_repr_nor_error_shows_a_private_key() -> None:
    pair = KeyPair.generate()

    with pytest.raises(IdentityError) as caught:
        KeyPair.from_hex(A, pair.private_key)

    for shown in (repr(pair), str(pair), str(caught.value)):
        assert pair.private_key[32:] not in shown
    assert pair.peer_id in repr(pair)


# Peer ids


def test_a_public_key_is_a_peer_id() -> None:
    assert is_peer_id(A)
    assert peer_id(A) == A


@pytest.mark.parametrize(
    "value",
    [
        *(A.upper(), A.replace("5531b8", "5531B8"), A[:-1] + "٣", A[:-1] + "ｂ"),
        *(A + "00", A + "z", A + "\n", " " + A, A[:-1], A[24:]),
        *(A_PRIVATE, PUBLIC_KEY_PREFIX + "g" * 64, "*", "alice", ""),
    ],
)
def test_another_spelling_is_not_a_peer_id(value: str) -> None:
    assert not is_peer_id(value)
    with pytest.raises(IdentityError):
        peer_id(value)


@pytest.mark.parametrize("value", [None, 5, True, [A], {"id": A}, A.encode(), bytes.fromhex(A)])
def test_what_is_not_a_string_is_not_a_peer_id(value: object) -> None:
    assert not is_peer_id(value)


# Signatures

DATA = b"hello"
SIGNATURE = KeyPair.from_seed(SEED).sign(DATA)


def test_a_signature_fits_its_key_and_its_data_only() -> None:
    assert verify(A, SIGNATURE, DATA)
    assert not verify(A, SIGNATURE, DATA + b"!")
    assert not verify(KeyPair.generate().peer_id, SIGNATURE, DATA)


@pytest.mark.parametrize(
    "signature",
    [
        *(SIGNATURE.upper(), SIGNATURE + "00", SIGNATURE + "z", SIGNATURE + "\n"),
        *(SIGNATURE[:-1], SIGNATURE[:-2] + "zz", ""),
        *(None, 5, True, [], {}, bytes.fromhex(SIGNATURE)),
    ],
)
def test_another_spelling_of_a_signature_is_refused(signature: object) -> None:
    assert not verify(A, signature, DATA)


@pytest.mark.parametrize("key", [A.upper(), A + "00", A[24:], "", None, 5, [A], A.encode()])
def test_another_spelling_of_the_key_is_refused(key: object) -> None:
    assert not verify(key, SIGNATURE, DATA)


json_like = st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.binary()


@given(json_like | st.lists(json_like), json_like | st.lists(json_like), st.binary())
def test_whatever_key_and_signature_are_the_answer_is_no(
    key: object, signature: object, data: bytes
) -> None:
    assert verify(key, signature, data) is False
    assert verify(A, signature, data) is False
    assert verify(key, SIGNATURE, data) is False


# OpenSSL agrees


@given(keys, st.binary(), st.integers(0, 511), st.booleans())
def test_openssl_agrees_about_signatures_of_which_a_bit_was_turned(
    seed: bytes, data: bytes, bit: int, is_turned: bool
) -> None:
    pair = KeyPair.from_seed(seed)
    number = int(pair.sign(data), 16) ^ (1 << bit if is_turned else 0)
    signature = number.to_bytes(64, "big")

    accepted = verify(pair.peer_id, signature.hex(), data)

    assert accepted is not is_turned
    assert accepted is openssl_accepts(raw(pair), signature, data)


@given(keys, st.binary(min_size=64, max_size=64), st.binary())
def test_openssl_agrees_about_random_keys_and_signatures(
    key: bytes, signature: bytes, data: bytes
) -> None:
    assume(not {key.hex(), signature[:32].hex()} & REFUSED_POINTS)

    ours = verify(PUBLIC_KEY_PREFIX + key.hex(), signature.hex(), data)

    assert ours is openssl_accepts(key, signature, data)


@given(keys, st.binary(), st.integers(1, 15))
def test_an_s_that_is_not_reduced_is_refused_by_all(seed: bytes, data: bytes, times: int) -> None:
    pair = KeyPair.from_seed(seed)
    signature = bytes.fromhex(pair.sign(data))
    s = int.from_bytes(signature[32:], "little") + times * ORDER
    if s >= 2**256:
        return
    unreduced = signature[:32] + s.to_bytes(32, "little")

    assert not verify(pair.peer_id, unreduced.hex(), data)
    assert not openssl_accepts(raw(pair), unreduced, data)


def raw(pair: KeyPair) -> bytes:
    return bytes.fromhex(pair.peer_id[len(PUBLIC_KEY_PREFIX) :])


# Refused points


@pytest.mark.parametrize("point", sorted(REFUSED_POINTS))
def test_no_signature_fits_a_refused_key(point: str) -> None:
    key = PUBLIC_KEY_PREFIX + point

    assert not is_peer_id(key)
    for signature, data in forgeries():
        assert not verify(key, signature.hex(), data)
        assert not libsodium_accepts(bytes.fromhex(point), signature, data)


def test_openssl_accepts_forgeries_under_every_key_of_small_order() -> None:
    accepting = {
        point
        for point in REFUSED_POINTS
        if any(openssl_accepts(bytes.fromhex(point), *forgery) for forgery in forgeries())
    }

    # Of those with y not below p only 0 and 1 mean points of small order.
    small = {encode(point) for point in small_order_points()}
    assert {point.hex() for point in small} < accepting
    assert len(accepting) == 14


def test_the_refused_points_are_all_of_small_order_and_all_that_are_not_reduced() -> None:
    reduced = {point for point in REFUSED_POINTS if y_of(bytes.fromhex(point)) < P}
    small = {encode(point).hex() for point in small_order_points()}
    without_x = {encode((0, y), sign=1).hex() for y in (1, P - 1)}

    assert len(small) == 8
    assert reduced == small | without_x
    assert len(REFUSED_POINTS - reduced) == 2 * (2**255 - P)


@cache
def forgeries() -> list[tuple[bytes, bytes]]:
    """Sign with S = 0, as anybody can, and hope that R is −h·A: among 8 points it soon is."""
    points = sorted(encode(point) for point in small_order_points())
    return [
        (point + bytes(32), b"%d" % number)
        for point, number in itertools.product(points, range(24))
    ]


def test_a_signature_whose_point_is_of_small_order_is_refused() -> None:
    # Its maker chose r = 0, by which anybody can reckon the private key: S is h·a.
    for point in small_order_points():
        signature = crafted_signature(encode(point), r=0)

        assert not verify(A, signature.hex(), DATA)
        assert not libsodium_accepts(bytes.fromhex(A[24:]), signature, DATA)

    assert openssl_accepts(bytes.fromhex(A[24:]), crafted_signature(encode((0, 1)), r=0), DATA)


def test_verification_is_without_cofactor_as_in_openssl() -> None:
    twisted = add(multiply(7, BASE), small_order_points()[-1])

    signature = crafted_signature(encode(twisted), r=7)

    assert not verify(A, signature.hex(), DATA)
    assert not openssl_accepts(bytes.fromhex(A[24:]), signature, DATA)
    assert verify(A, crafted_signature(encode(multiply(7, BASE)), r=7).hex(), DATA)


def test_openssl_agrees_about_a_key_with_a_part_of_small_order() -> None:
    key = encode(add(multiply(secret_scalar(), BASE), small_order_points()[-1]))
    verdicts = set()

    for number in range(32):
        data = b"%d" % number
        signature = crafted_signature(encode(multiply(7, BASE)), r=7, key=key, data=data)
        accepted = verify(PUBLIC_KEY_PREFIX + key.hex(), signature.hex(), data)
        assert accepted is openssl_accepts(key, signature, data)
        verdicts.add(accepted)

    assert verdicts == {True, False}


# The curve, naively: RFC 8032 section 5.1

Point = tuple[int, int]

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(left: Point, right: Point) -> Point:
    (x1, y1), (x2, y2) = left, right
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P) % P
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P) % P
    return x, y


def multiply(factor: int, point: Point) -> Point:
    result = (0, 1)
    while factor:
        if factor & 1:
            result = add(result, point)
        point, factor = add(point, point), factor >> 1
    return result


def decode(y: int) -> Point | None:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    for root in (x, x * ROOT_OF_MINUS_ONE % P):
        if (root * root - square) % P == 0:
            return root, y
    return None


def encode(point: Point, sign: int | None = None) -> bytes:
    x, y = point
    return (y | (x & 1 if sign is None else sign) << 255).to_bytes(32, "little")


def y_of(encoded: bytes) -> int:
    return int.from_bytes(encoded, "little") & ~(1 << 255)


def found(point: Point | None) -> Point:
    assert point is not None
    return point


BASE = next(
    point
    for x, y in [found(decode(4 * pow(5, -1, P) % P))]
    for point in [(x, y), (P - x, y)]
    if point[0] % 2 == 0
)


@cache
def small_order_points() -> list[Point]:
    """Find the eight points that vanish when doubled three times; the last is of order 8."""
    decoded = (decode(y) for y in itertools.count(2))
    generators = (multiply(ORDER, point) for point in decoded if point is not None)
    generator = next(point for point in generators if multiply(4, point) != (0, 1))
    return [multiply(times, generator) for times in (0, 4, 2, 6, 3, 5, 7, 1)]


def secret_scalar() -> int:
    digest = bytearray(sha512(SEED).digest()[:32])
    digest[0] &= 248
    digest[31] = digest[31] & 127 | 64
    return int.from_bytes(digest, "little")


def crafted_signature(
    point: bytes, *, r: int, key: bytes = bytes.fromhex(A[24:]), data: bytes = DATA
) -> bytes:
    """Sign as the holder of A's private key who chose *point* and *r* freely."""
    h = int.from_bytes(sha512(point + key + data).digest(), "little")
    return point + ((r + h * secret_scalar()) % ORDER).to_bytes(32, "little")
