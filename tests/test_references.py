"""Short peer references, against the examples of the reference and the rules between them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agora.errors import PeerReferenceError
from agora.references import (
    Contact,
    compact_inline,
    compact_known_inline,
    expand,
    expand_inline,
    format_display_name,
    merge_directories,
    resolve,
    resolve_display_name,
    short_key,
    shorten,
)

A = "302a300506032b657003210003a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"
B = "302a300506032b657003210029acbae141bccaf0b22e1a94d34d0bc7361e526d0bfe12c89794bc9322966dd7"
DIRECTORY = (Contact(A, "alice"), Contact(B))

ids = st.text("0123456789abcdef", min_size=64, max_size=64).map("302a300506032b6570032100".__add__)
names = st.text(st.characters(exclude_characters="@.", exclude_categories=["Z", "C"]), min_size=1)


def test_a_named_peer_is_written_with_its_name_and_suffix() -> None:
    assert shorten(A, DIRECTORY) == "alice@125531b8"


@pytest.mark.parametrize("directory", [DIRECTORY, (), [Contact(B, "")]])
def test_a_peer_without_a_name_is_written_with_its_suffix(directory: list[Contact]) -> None:
    assert shorten(B, directory) == "@22966dd7"


def test_a_short_key_never_has_a_name() -> None:
    assert short_key(A) == "@125531b8"


def test_an_id_shorter_than_a_suffix_is_its_own_suffix() -> None:
    assert shorten("abc") == "@abc"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("bob", "bob@125531b8"),
        (" bob", " bob@125531b8"),
        (None, "@125531b8"),
        ("", "@125531b8"),
        (" \ufeff", "@125531b8"),
        ("@bob", "@125531b8"),
        ("...125531b8", "@125531b8"),
    ],
)
def test_a_display_name_is_a_name_with_a_suffix_or_a_suffix(name: str | None, shown: str) -> None:
    assert format_display_name(name, A) == shown


def test_only_local_names_are_display_names() -> None:
    assert resolve_display_name(A, DIRECTORY) == "alice"
    assert resolve_display_name(B, DIRECTORY) is None
    assert resolve_display_name(A) is None


@pytest.mark.parametrize(
    ("reference", "peer_id"),
    [
        (A, A),
        (B, B),
        ("alice", A),
        (" alice ", A),
        ("\ufeffalice\n", A),
        ("alice@125531b8", A),
        ("alice@125531B8", A),
        ("alice...125531b8", A),
        ("@22966dd7", B),
        ("@22966DD7", B),
        ("...22966dd7", B),
    ],
)
def test_a_reference_expands_to_its_peer(reference: str, peer_id: str) -> None:
    assert expand(reference, DIRECTORY) == peer_id


@pytest.mark.parametrize(
    "reference",
    ["22966dd7", "Alice", "bob@125531b8", "alice@22966dd7", B.upper(), "", " ", "alice\x85"],
)
def test_what_is_not_quite_a_reference_expands_to_nothing(reference: str) -> None:
    assert expand(reference, DIRECTORY) is None


def test_nothing_expands_over_an_empty_directory() -> None:
    assert expand(A, ()) is None


def test_a_contact_without_a_key_is_ignored() -> None:
    assert expand("ghost", [Contact("", "ghost")]) is None


def test_a_name_that_two_peers_have_expands_to_neither() -> None:
    directory = [Contact(A, "sam"), Contact(B, "sam")]

    assert expand("sam", directory) is None
    assert expand("sam@125531b8", directory) == A


def test_a_suffix_that_two_peers_have_needs_a_name() -> None:
    lookalike = "00" + A[2:]
    directory = [Contact(A, "alice"), Contact(lookalike, "mallory")]

    assert expand("@125531b8", directory) is None
    assert expand("mallory@125531b8", directory) == lookalike


def test_the_last_at_sign_ends_the_name() -> None:
    assert expand("ann@home@125531b8", [Contact(A, "ann@home")]) == A


def test_a_shape_decides_even_if_a_peer_is_named_like_it() -> None:
    assert expand("bob@125531b8", [Contact(A, "bob@125531b8")]) is None


def test_a_name_with_a_line_break_has_no_short_form() -> None:
    assert expand("a\nb@125531b8", [Contact(A, "a\nb")]) is None
    assert expand("a\nb", [Contact(A, "a\nb")]) == A


@given(st.dictionaries(ids, names | st.none(), min_size=1))
def test_whatever_is_shortened_expands_again_unless_it_is_ambiguous(
    named: dict[str, str | None],
) -> None:
    directory = [Contact(peer_id, name) for peer_id, name in named.items()]

    for contact in directory:
        assert expand(shorten(contact.public_key, directory), directory) in (
            contact.public_key,
            None,
        )


@given(st.text())
def test_any_text_expands_to_a_known_peer_or_nothing(text: str) -> None:
    assert expand(text, DIRECTORY) in (A, B, None)


def test_resolving_an_unknown_name_says_so() -> None:
    with pytest.raises(PeerReferenceError, match="no known peer is 'bob'"):
        resolve("bob", DIRECTORY)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (A[:-1], "a peer id has 88 lower-case hex digits; this has 87"),
        (A.upper(), "a peer id has 88 lower-case hex digits; this has upper-case ones"),
        ("125531b8", "no known peer is '125531b8'; did you mean @125531b8?"),
        ("12345678", "no known peer is '12345678'"),
    ],
)
def test_resolving_what_is_almost_an_id_says_what_is_wrong(reference: str, why: str) -> None:
    with pytest.raises(PeerReferenceError) as refusal:
        resolve(reference, DIRECTORY)

    assert str(refusal.value) == why


def test_resolving_an_ambiguous_name_shows_whom_it_may_mean() -> None:
    with pytest.raises(PeerReferenceError, match=f"'sam' fits 2 peers.*{A}, {B}"):
        resolve("sam", [Contact(A, "sam"), Contact(B, "sam")])


def test_resolving_a_known_name_gives_its_id() -> None:
    assert resolve("alice", DIRECTORY) == A


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("hi @alice", f"hi @{A}"),
        ("@alice and @alice@125531b8", f"@{A} and @{A}"),
        ("hi @alice, ok", "hi @alice, ok"),
        ("@22966dd7 x", "@22966dd7 x"),
        ("@@22966dd7 x", f"@{B} x"),
        ("a@alice", f"a@{A}"),
        ("@alice\ufeff!", f"@{A}\ufeff!"),
        ("@alice\x1f!", "@alice\x1f!"),
        ("@", "@"),
    ],
)
def test_mentions_expand_as_in_the_reference(text: str, expanded: str) -> None:
    assert expand_inline(text, DIRECTORY) == expanded


@pytest.mark.parametrize(
    ("text", "compact", "known_only"),
    [
        (f"hi @{A}!", "hi @alice@125531b8!", "hi @alice@125531b8!"),
        (f"@{B}", "@@22966dd7", "@@22966dd7"),
        ("@deadbeefdeadbeef", "@@deadbeef", "@deadbeefdeadbeef"),
        ("@deadbeef", "@deadbeef", "@deadbeef"),
        (f"@{A}00", "@@5531b800", f"@{A}00"),
    ],
)
def test_long_mentions_become_short(text: str, compact: str, known_only: str) -> None:
    assert compact_inline(text, DIRECTORY) == compact
    assert compact_known_inline(text, DIRECTORY) == known_only


def test_what_was_compacted_expands_again() -> None:
    text = f"@{A} asks @{B}"

    assert expand_inline(compact_inline(text, DIRECTORY), DIRECTORY) == text


def test_merging_keeps_the_names_of_the_base() -> None:
    seen = [Contact(A), Contact("c"), Contact("")]

    merged = merge_directories(DIRECTORY, seen, [Contact("c", "carol")])

    assert set(merged) == {Contact(A, "alice"), Contact(B), Contact("c", "carol")}
