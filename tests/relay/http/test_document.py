"""The API's own description: complete, true, and enough to write a client from."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema_rs
import pytest
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from agora.codes import HTTP_STATUS, HttpErrorCode
from agora.relay import Relay
from agora.relay.http.app import ROUTES
from agora.relay.http.document import VECTOR, document
from agora.relay.http.html import to_html
from tests.relay.http.talking import http_peer, url_of

DOCUMENT = document()
TEXT = DOCUMENT["info"]["description"]


def test_it_is_openapi_3_1() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["title"] == "Agora relay"


def test_every_request_of_the_api_is_in_it() -> None:
    served = {
        (method.lower(), path)
        for handler in ROUTES
        for path in handler.paths
        for method in handler.http_methods - {"OPTIONS", "HEAD"}
        if path.startswith("/v1/")
    }
    told = {(method, path) for path, methods in DOCUMENT["paths"].items() for method in methods}

    assert told == served


def test_every_reference_leads_somewhere() -> None:
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(DOCUMENT))):
        found: Any = DOCUMENT
        for part in reference.split("/"):
            found = found[part]


def test_every_request_says_how_it_may_fail() -> None:
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            assert {"200", "400", "408", "429", "431", "500", "503"} <= set(operation["responses"])
            assert ("401" in operation["responses"]) or not operation["security"]
            assert ("413" in operation["responses"]) == ("requestBody" in operation)


def test_the_codes_of_a_status_are_those_that_have_it() -> None:
    for methods in DOCUMENT["paths"].values():
        for operation in methods.values():
            for status, answer in operation["responses"].items():
                if name := answer.get("$ref", "").rpartition("/")[2]:
                    body = DOCUMENT["components"]["responses"][name]["content"]["application/json"]
                    codes = body["schema"]["allOf"][1]["properties"]["error"]["properties"]["code"]
                    assert {str(HTTP_STATUS[code]) for code in codes["enum"]} == {status}


@pytest.mark.parametrize(
    "member", ["id", "type", "from", "to", "timestamp", "payload", "signature"]
)
async def test_the_reason_that_a_missing_member_gets_is_the_one_that_names_it(
    relay: Relay, member: str
) -> None:
    async with http_peer(relay) as alice:
        envelope = alice.letter(alice.id).to_dict()
        del envelope[member]
        body = {"envelope": envelope, "to": alice.id}
        reason = (await alice.ask("POST", "/v1/send", json=body)).json()["error"]["reason"]

    told = f"| `invalid_envelope` | `{reason}` |"
    assert f"`{member}`" in next(row for row in TEXT.splitlines() if row.startswith(told))


def test_every_code_is_in_its_text() -> None:
    for code in {*HTTP_STATUS} - {HttpErrorCode.UNAUTHORIZED}:  # that is its operator's
        assert f"| {HTTP_STATUS[code]} | `{code}` |" in TEXT


def test_the_vector_is_what_another_library_computes() -> None:
    client = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(VECTOR["client_seed"]))
    relay = Ed25519PublicKey.from_public_bytes(bytes.fromhex(VECTOR["relay"][24:]))
    relay.verify(bytes.fromhex(VECTOR["challenge_signature"]), VECTOR["challenge_text"].encode())

    assert client.sign(VECTOR["proof_text"].encode()).hex() == VECTOR["proof_signature"]
    assert client.sign(VECTOR["envelope_text"].encode()).hex() == VECTOR["envelope_signature"]
    assert hashlib.sha256(VECTOR["envelope_text"].encode()).hexdigest() == VECTOR["envelope_id"]


def test_the_recipe_of_the_text_gives_the_vector() -> None:
    envelope = DOCUMENT["paths"]["/v1/send"]["post"]["requestBody"]["content"]["application/json"]
    signed = dict(envelope["example"]["envelope"])
    del signed["id"], signed["signature"]

    # As the text says it for Python.
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text == VECTOR["envelope_text"]
    assert text in TEXT


# Examples

EVENTS = DOCUMENT["paths"]["/v1/events"]["get"]["responses"]["200"]["content"]["text/event-stream"][
    "example"
]
"""Some events of a stream."""


def of_event(name: str) -> Any:
    """Return the schema of the data of the event of this *name*."""
    kind = DOCUMENT["components"]["schemas"][name.capitalize()]
    return kind | {"components": DOCUMENT["components"]}


def examples() -> Iterator[tuple[str, Any, Any]]:
    """Yield every example of a JSON body, with where it stands and its schema."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for name, body in {
                "asked": operation.get("requestBody"),
                **operation["responses"],
            }.items():
                content = (body or {}).get("content", {}).get("application/json", {})
                if "example" in content:
                    yield f"{method} {path} {name}", content["schema"], content["example"]
    for name, answer in DOCUMENT["components"]["responses"].items():
        content = answer["content"]["application/json"]
        yield name, content["schema"], content["example"]


@pytest.mark.parametrize(
    ("schema", "example"), [pytest.param(*rest, id=name) for name, *rest in examples()]
)
def test_an_example_is_what_it_is_an_example_of(schema: Any, example: Any) -> None:
    whole = schema | {"components": DOCUMENT["components"]}
    jsonschema_rs.validator_for(whole).validate(example)


@pytest.mark.parametrize("event", re.findall("^event: (.*)\ndata: (.*)$", EVENTS, re.M))
def test_an_event_of_the_example_is_what_its_name_says(event: tuple[str, str]) -> None:
    name, data = event
    jsonschema_rs.validator_for(of_event(name)).validate(json.loads(data))


async def test_what_a_stream_tells_is_what_its_events_are_said_to_be(relay: Relay) -> None:
    told: dict[str, Any] = {}
    async with (
        http_peer(relay) as alice,
        http_peer(relay) as bob,
        bob.events() as listening,
        alice.events("all", last="nonsense-1") as events,
    ):
        asked = alice.letter(bob.id)
        await bob.send_envelope(bob.letter(alice.id), wait=0)
        await alice.send_envelope(asked, wait=0)
        await listening.message()
        await bob.ack(asked.id)
        while len(told) < 4:
            name, data = await events.next()
            told[name] = data
            assert list(jsonschema_rs.validator_for(of_event(name)).iter_errors(data)) == []

    assert {*told} == {"missed", "presence", "message", "receipt"}
    assert told["presence"]["online"] == [{"publicKey": bob.id}]


def test_every_body_has_its_example() -> None:
    told = {name for name, _, _ in examples()}
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if "requestBody" in operation:
                assert f"{method} {path} asked" in told


async def test_every_example_of_a_request_works_once_it_is_signed_by_who_sends_it(
    relay: Relay,
) -> None:
    found = {name.split()[1]: example for name, _, example in examples() if "asked" in name}
    asked = copy.deepcopy(found)
    async with http_peer(relay) as alice:
        challenge = await alice.challenge()
        asked["/v1/register"] |= alice.proof(challenge)
        one = asked["/v1/send"]["envelope"]
        letter = alice.letter(alice.id, one["payload"], type=one["type"])
        assert {*letter.to_dict()} == {*one}
        asked["/v1/send"] = {"envelope": letter.to_dict()}
        for path, body in asked.items():
            answer = await alice.ask("POST", path, json=body)
            assert answer.status_code == 200, (path, answer.text)


async def test_a_client_can_be_written_from_it_alone(relay: Relay) -> None:
    """Nothing of ours is used here but the relay: what is done is what the text says."""

    def canonical(value: object) -> bytes:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    key = Ed25519PrivateKey.generate()
    me = "302a300506032b6570032100" + key.public_key().public_bytes_raw().hex()
    url, nonce = url_of(relay), "5a" * 32
    async with httpx2.AsyncClient(base_url=url) as http:
        told = (await http.post("/v1/challenge", json={"publicKey": me, "nonce": nonce})).json()
        asked = {
            "clientNonce": nonce,
            "nonce": told["nonce"],
            "publicKey": me,
            "purpose": "agora/1 http challenge",
            "relay": told["relay"],
        }
        theirs = Ed25519PublicKey.from_public_bytes(bytes.fromhex(told["relay"][24:]))
        theirs.verify(bytes.fromhex(told["signature"]), canonical(asked))
        proof = {
            "audience": url.removeprefix("http://"),
            "nonce": told["nonce"],
            "publicKey": me,
            "purpose": "agora/1 http authenticate",
            "relay": told["relay"],
        }
        registered = await http.post(
            "/v1/register",
            json={
                "publicKey": me,
                "nonce": told["nonce"],
                "signature": key.sign(canonical(proof)).hex(),
            },
        )
        http.headers["Authorization"] = f"Bearer {registered.json()['token']}"
        signed = {
            "from": me,
            "to": [me],
            "timestamp": registered.json()["now"],
            "type": "publish",
            "payload": {"text": "to myself"},
        }
        envelope = signed | {
            "id": hashlib.sha256(canonical(signed)).hexdigest(),
            "signature": key.sign(canonical(signed)).hex(),
        }
        sent = (await http.post("/v1/send", json={"envelope": envelope})).json()
        mail = (await http.get("/v1/messages", params={"wait": 10})).json()
        ids = [one["envelope"]["id"] for one in mail["messages"]]
        acked = (await http.post("/v1/ack", json={"ids": ids})).json()

    assert sent["receipts"][0]["status"] == "stored"
    assert mail["messages"][0]["envelope"] == envelope
    assert acked == {"ok": True}


# The pages


async def test_it_is_served_to_programs_and_to_people(relay: Relay) -> None:
    async with http_peer(relay, register=False) as anyone:
        program = await anyone.ask("GET", "/openapi.json")
        person = await anyone.ask("GET", "/docs")
        style = await anyone.ask("GET", "/docs/style.css")

    assert program.json() == json.loads(json.dumps(DOCUMENT))
    assert person.headers["Content-Type"].startswith("text/html")
    assert style.headers["Content-Type"].startswith("text/css")
    for title in ("Get a token", "POST /v1/send", "SendRequest"):
        assert title in person.text


async def test_it_tells_the_bounds_of_the_relay_that_serves_it() -> None:
    settings: dict[str, Any] = {"max_name_length": 7, "token_lifetime": 77.0}
    async with (
        Relay(port=0, http_port=0, **settings) as relay,
        http_peer(relay, register=False) as anyone,
    ):
        told = (await anyone.ask("GET", "/openapi.json")).json()

    asked = told["components"]["schemas"]["RegisterRequest"]["properties"]
    assert asked["name"]["anyOf"][0]["maxLength"] == 7
    assert "good for\n   77 s" in told["info"]["description"]


async def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(relay: Relay) -> None:
    async with http_peer(relay, register=False) as anyone:
        page = await anyone.ask("GET", "/docs")

    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "unsafe" not in policy
    assert re.findall(r"<(?:script|style|img|iframe)|\sstyle=|\son\w+=", page.text) == []
    assert re.findall(r'(?:src|href)="(?![/#])', page.text) == []
    assert page.headers["X-Content-Type-Options"] == "nosniff"


async def test_every_link_of_the_page_leads_somewhere(relay: Relay) -> None:
    async with http_peer(relay, register=False) as anyone:
        page = (await anyone.ask("GET", "/docs")).text
        places = set(re.findall(r'id="([^"]+)"', page))
        assert set(re.findall(r'href="#([^"]+)"', page)) <= places
        for path in re.findall(r'href="(/[^"]+)"', page):
            assert (await anyone.ask("GET", path)).status_code == 200


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("## A b", '<h2 id="a-b">A b</h2>'),
        ("a `<b>` **c**", "<p>a <code>&lt;b&gt;</code> <strong>c</strong></p>"),
        ("[d](#e)", '<p><a href="#e">d</a></p>'),
        ("1. a\n2. b", "<ol><li>a\n</li><li>b</li></ol>"),
        ("```json\n{}\n\n[]\n```", "<pre><code>{}\n\n[]\n</code></pre>"),
        (
            "| a | b |\n|---|---|\n| `c` | d \\| e |",
            '<div><table><thead><tr><th scope="col">a</th><th scope="col">b</th></tr></thead>'
            "<tbody><tr><td><code>c</code></td><td>d | e</td></tr></tbody></table></div>",
        ),
    ],
)
def test_markdown_becomes_html(markdown: str, html: str) -> None:
    assert to_html(markdown) == html
