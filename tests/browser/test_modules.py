"""
What the pages sign and verify is what the Python library does: every vector, in a real browser.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from agora.canonical import canonical_text
from agora.envelope import open_envelope, seal
from agora.keys import REFUSED_POINTS, KeyPair, is_peer_id
from agora.protocol.proof import audience_of
from agora.relay.http.pages import assets_url
from agora.testing import RelayInThread
from tests.test_vectors import (
    APPENDIX,
    BEYOND,
    KEY_PAIRS,
    NUMBERS,
    QUIRK_ROWS,
    VECTORS,
    canonical_of,
    expected_verdict,
)


@pytest.fixture(scope="module")
def somewhere(browser: Browser, relay: RelayInThread) -> Iterator[Page]:
    """A page of the relay's that does nothing by itself."""
    with closing(browser.new_page()) as page:
        page.goto(f"{relay.http_url}{assets_url()}/icon.svg")
        yield page


@pytest.fixture
def module(somewhere: Page) -> Any:
    """A function that runs something with a module of the pages, as ``m``, in the browser."""

    def run(name: str, source: str, argument: object = None) -> Any:
        body = f"async ([module, argument]) => {{ const m = await import(module); {source} }}"
        return somewhere.evaluate(body, [f"{assets_url()}/{name}", argument])

    return run


OPEN = """
    const verdict = async (text) => {
        try {
            const envelope = await m.open(text);
            return { verdict: "valid", written: JSON.stringify(envelope), id: envelope.id };
        } catch (error) {
            return { verdict: error.reason ?? `${error}` };
        }
    };
    return Promise.all(argument.map(verdict));
"""


def test_every_envelope_of_the_reference_is_opened_and_written_again(module: Any) -> None:
    vectors = [vector for vector in VECTORS["cases"] if vector["name"] not in QUIRK_ROWS]

    opened = module("agora/envelope.js", OPEN, [vector["envelope_json"] for vector in vectors])

    assert [one["verdict"] for one in opened] == ["valid"] * len(vectors)
    assert [one["written"] for one in opened] == [vector["envelope_json"] for vector in vectors]


def test_every_envelope_of_the_reference_is_sealed_byte_for_byte(module: Any) -> None:
    vectors = [vector for vector in VECTORS["cases"] if vector["name"] not in QUIRK_ROWS]
    said = [
        {
            "key": KEY_PAIRS[json.loads(vector["envelope_json"])["from"]].private_key,
            "type": vector["type"],
            "payload": vector["payload_json"],  # as text: the driver's own JSON is another
            "to": vector.get("to_input", vector["to"]),
            "timestamp": vector["timestamp"],
            **({"inReplyTo": vector["inReplyTo"]} if "inReplyTo" in vector else {}),
        }
        for vector in vectors
    ]
    source = f"""
        const {{ KeyPair }} = await import("{assets_url()}/agora/keys.js");
        const one = async ({{ key, payload, ...said }}) => {{
            const keys = await KeyPair.fromHex(key);
            return JSON.stringify(await m.seal(keys, {{ ...said, payload: JSON.parse(payload) }}));
        }};
        return Promise.all(argument.map(one));
    """

    sealed = module("agora/envelope.js", source, said)

    assert sealed == [vector["envelope_json"] for vector in vectors]


def test_what_is_refused_is_refused_for_the_same_reason(module: Any) -> None:
    expected = {
        vector["envelope_json"]: expected_verdict(vector["expected"])
        for vector in VECTORS["invalid"]
    }
    named = {
        vector["name"]: vector["envelope_json"]
        for part in ("quirks", "invalid", "cases")
        for vector in VECTORS[part]
    } | {name: make() for name, make in BEYOND.items()}
    expected |= {named[name]: ours for name, (_, ours) in QUIRK_ROWS.items()}
    expected |= {
        vector["envelope_json"]: expected_verdict(vector["verify_after_wire"])
        for vector in VECTORS["js_only"]
    }

    opened = module("agora/envelope.js", OPEN, list(expected))

    assert [one["verdict"] for one in opened] == list(expected.values())


def test_a_text_that_javascript_would_not_have_written_means_what_it_means_there(
    module: Any,
) -> None:
    vectors = VECTORS["reparse"]

    opened = module("agora/envelope.js", OPEN, [vector["envelope_text"] for vector in vectors])

    assert [one.get("id") for one in opened] == [vector["id"] for vector in vectors]
    assert [one["written"] for one in opened] == [
        vector["relayed_envelope_text"] for vector in vectors
    ]


def test_the_vectors_of_the_appendix_verify(module: Any) -> None:
    vectors = [
        (APPENDIX["A"], vector["signature"], canonical_of(vector)) for vector in APPENDIX["vectors"]
    ]
    source = """
        const bytes = (text) => new TextEncoder().encode(text);
        const one = ([key, signature, text]) => m.verify(key, signature, bytes(text));
        return Promise.all(argument.map(one));
    """

    assert module("agora/keys.js", source, vectors) == [True] * len(vectors)


def test_every_number_is_written_as_node_writes_it(module: Any) -> None:
    # As the bits of the double: on the way through the driver's JSON some would change.
    source = """
        const byte = (digits) => parseInt(digits, 16);
        const bytes = (digits) => Uint8Array.from(digits.match(/../g), byte);
        const number = (digits) => new DataView(bytes(digits).buffer).getFloat64(0);
        return argument.map((digits) => m.canonicalText(number(digits)));
    """

    written = module("agora/canonical.js", source, [bits for bits, _ in NUMBERS])

    assert written == [text for _, text in NUMBERS]
    assert written[5] == canonical_text(struct.unpack(">d", bytes.fromhex(NUMBERS[5][0]))[0])


def test_the_same_keys_are_refused(module: Any) -> None:
    prefix = next(iter(KEY_PAIRS))[:24]
    keys = [prefix + point for point in sorted(REFUSED_POINTS)]
    keys += [*KEY_PAIRS, next(iter(KEY_PAIRS)).upper(), "", "*", prefix]

    judged = module("agora/keys.js", "return argument.map(m.isPeerId)", keys)

    assert judged == [is_peer_id(key) for key in keys]


def test_each_side_opens_what_the_other_has_sealed(module: Any) -> None:
    keys = KeyPair.generate()
    ours = seal(keys, type="publish", payload={"text": "hé 😀"}, to="*", timestamp_ms=1)
    source = f"""
        const {{ KeyPair }} = await import("{assets_url()}/agora/keys.js");
        const keys = await KeyPair.generate();
        const wasOpen = keys.isOpen;
        await keys.lock();
        const to = argument.to, payload = {{ text: "ünd 😀", n: [1e21, -0] }};
        const sealed = await m.seal(keys, {{ type: "publish", payload, to, timestamp: 5 }});
        const opened = await m.open(argument.theirs);
        return [keys.peerId, JSON.stringify(sealed), opened.payload, wasOpen, keys.isOpen];
    """

    peer, sealed, payload, was_open, is_open = module(
        "agora/envelope.js", source, {"theirs": ours.to_json(), "to": [keys.peer_id]}
    )

    envelope = open_envelope(sealed)
    assert (envelope.sender, envelope.to) == (peer, (keys.peer_id,))
    assert envelope.payload == {"text": "ünd 😀", "n": [1e21, 0]}
    assert payload == {"text": "hé 😀"}
    assert (was_open, is_open) == (True, False)


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9471/",
        "https://Relay.Example.org/chat",
        "http://relay.example.org./",
        "http://[0:0:0:0:0:0:0:1]:9471/",
        "https://bücher.example:8443/",
    ],
)
def test_the_audience_is_what_the_library_makes_of_the_same_url(module: Any, url: str) -> None:
    assert module("agora/proof.js", "return m.audienceOf(new URL(argument))", url) == audience_of(
        url
    )


def test_text_that_deceives_the_eye_is_shown_without_what_does_it(module: Any) -> None:
    source = "return [m.printable(argument), m.printableName(argument)]"
    text = "pay\u202etxt.exe\u200b\x1b[31m\r\ntwo\ufe0f \ud83d"

    shown, name = module("agora/text.js", source, text)

    assert shown == "paytxt.exe[31m\ntwo\ufe0f \ufffd"
    assert name == "paytxt.exe[31m two \ufffd"
