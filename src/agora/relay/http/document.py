"""
The API's own description: OpenAPI 3.1, made of the routes, the types and the code tables.

From it alone a client can be written: the text says what is signed and how, with
a vector that the code has computed. Made when somebody asks for it first.
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import sha256
from importlib import resources
from inspect import getdoc
from string import Template
from typing import Any

import msgspec
from litestar import Litestar
from litestar.di import Provide
from litestar.openapi.config import OpenAPIConfig

import agora
from agora.canonical import canonical_text
from agora.codes import ERROR_ADVICE, HTTP_ERROR_ADVICE, HTTP_STATUS, Advice
from agora.envelope import Envelope, seal
from agora.keys import KeyPair
from agora.limits import Limits
from agora.protocol.proof import OVER_HTTP, sign_challenge, sign_proof
from agora.relay.http import api, events, shapes
from agora.relay.http.callers import authenticate

__all__ = ["VECTOR", "document"]

_Members = dict[str, Any]


@lru_cache(maxsize=1)
def document() -> _Members:
    """Return the OpenAPI document."""
    made = _of_the_framework()
    made["info"] = {
        "title": "Agora relay",
        "version": agora.__version__,
        "summary": "Signed messages between agents, by HTTP.",
        "description": _description(),
        "license": {"name": "MIT", "identifier": "MIT"},
    }
    made["components"] = {
        "schemas": _schemas(),
        "securitySchemes": {"token": _TOKEN},
        "headers": _HEADERS,
        "responses": {f"Error{status}": _error(status) for status in _codes_by_status()},
    }
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _complete(operation, _HANDLERS[method, path])
    _name_in_order(made)
    return made


def _of_the_framework() -> _Members:
    """Return what litestar makes of routes and types."""
    app = Litestar(
        route_handlers=[*api.ROUTES, *events.ROUTES],
        # They stand for what a request brings, and are no parameters of it.
        dependencies={"door": Provide(_no_door), "token": Provide(authenticate)},
        openapi_config=OpenAPIConfig(title="", version="", use_handler_docstrings=True),
        logging_config=None,
    )
    made: _Members = json.loads(json.dumps(app.openapi_schema.to_schema()))
    return made


async def _no_door() -> None:
    """Take the place of the door."""


_HANDLERS = {
    (method.lower(), path): handler.fn
    for handler in (*api.ROUTES, *events.ROUTES)
    for path in handler.paths
    for method in handler.http_methods
    if method != "OPTIONS"
}


def _name_in_order(made: _Members) -> None:
    made["paths"] = {path: made["paths"][path] for _, path in _HANDLERS}


def _schemas() -> _Members:
    """Return the types as msgspec tells of them: litestar leaves out what is said of items."""
    kinds = [getattr(shapes, name) for name in shapes.__all__]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    # It is read as any object, so that the relay itself says what is wrong with it.
    schemas["SendRequest"]["properties"]["envelope"] = _reference("schemas", "Envelope")
    return schemas


# Operations


def _complete(operation: _Members, handler: Any) -> None:
    """Say of an operation what types do not: why it may fail, and what comes with an answer."""
    summary, _, more = (getdoc(handler) or "").partition("\n\n")
    needs_token = "token" in handler.__annotations__
    operation["operationId"] = handler.__name__
    operation["summary"] = " ".join(summary.split()).rstrip(".")
    operation["description"] = more or summary
    operation["security"] = [{"token": []}] if needs_token else []
    operation.pop("deprecated", None)
    for parameter in operation.get("parameters", []):
        for name in ("deprecated", "allowEmptyValue", "allowReserved"):
            parameter.pop(name, None)
    _illustrate(operation)
    well = operation["responses"]["200"]
    well |= {
        "description": _WELL[handler.__name__],
        "headers": _told("RateLimit-Policy", "RateLimit"),
    }
    operation["responses"] = {"200": well}
    if handler.__name__ == "send":
        operation["responses"]["202"] = well | {"description": "Not all of it is settled yet."}
    for status in _statuses(operation, needs_token, handler.__name__):
        operation["responses"][str(status)] = _reference("responses", f"Error{status}")


def _statuses(operation: _Members, needs_token: bool, name: str) -> list[int]:
    found = {429, 500, 503}
    found |= {401} if needs_token or name == "register" else set()
    found |= {400} if operation.get("parameters") or "requestBody" in operation else set()
    found |= {413, 415} if "requestBody" in operation else set()
    found |= {403, 404, 409} if name == "send" else set()
    found |= {501} if name == "replay" else set()
    return sorted(found)


_WELL = {
    "challenge": "What to sign.",
    "register": "The token, and what a peer that comes should know.",
    "disconnect": "The token is good no longer.",
    "send": "What became of it, for each recipient; at least one has it.",
    "messages": "Mail, the oldest first; none when nothing came in time.",
    "ack": "They do not come again.",
    "nack": "They come again.",
    "replay": "Mail, the oldest first.",
    "peers": "A page of peers.",
    "events": "Events, one after the other, for as long as both sides like.",
}


# Errors


def _codes_by_status() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code, status in HTTP_STATUS.items():
        found.setdefault(status, []).append(str(code))
    return dict(sorted(found.items()))


def _error(status: int) -> _Members:
    codes = _codes_by_status()[status]
    headers = ["RateLimit-Policy", "RateLimit"]
    headers += ["WWW-Authenticate"] * (status == 401) + ["Retry-After"] * (status in (429, 503))
    example = {"error": {"code": codes[0], "message": "What is wrong, for people"}}
    if status == 429:
        example["error"]["retryAfterMs"] = 1500  # type: ignore[assignment]  # mixed on purpose
    return {
        "description": " · ".join(f"`{code}`" for code in codes),
        "headers": _told(*headers),
        "content": {
            "application/json": {
                "schema": _reference("schemas", "ErrorAnswer"),
                "example": example,
            }
        },
    }


def _told(*names: str) -> _Members:
    return {name: _reference("headers", name) for name in names}


def _reference(kind: str, name: str) -> _Members:
    return {"$ref": f"#/components/{kind}/{name}"}


_TOKEN = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The token that `/v1/register` gave.",
}

_HEADERS = {
    "RateLimit-Policy": {
        "description": "What is allowed: `q` requests in `w` seconds, of an address and of a key.",
        "schema": {"type": "string"},
        "example": '"address";q=6000;w=10, "key";q=600;w=10',
    },
    "RateLimit": {
        "description": "What is left: `r` requests; all of them again in `t` seconds.",
        "schema": {"type": "string"},
        "example": '"address";r=5999;t=1, "key";r=599;t=1',
    },
    "Retry-After": {
        "description": "Seconds to wait before asking again; where it makes sense.",
        "schema": {"type": "integer", "minimum": 0},
    },
    "WWW-Authenticate": {
        "description": "`Bearer`, and whether a token was there that is none (RFC 6750).",
        "schema": {"type": "string"},
    },
}


# The text


def _description() -> str:
    text = resources.files("agora.relay.http").joinpath("description.md").read_text("utf-8")
    limits = Limits()
    told = {
        "codes": _code_table(),
        "timeout": f"{limits.register_timeout:g}",
        "window": str(limits.window_messages),
        "grace": f"{limits.http_session_grace:g}",
        "dedup": f"{limits.dedup_max_age / 60:g}",
        "backlog": f"{limits.http_backlog_bytes:,}",
    }
    return Template(text).substitute(VECTOR | told)


def _code_table() -> str:
    advice: dict[Any, Advice] = {**ERROR_ADVICE, **HTTP_ERROR_ADVICE}
    rows = [
        f"| {status} | `{code}` | {advice[code].when} | {advice[code].do} |"
        for code, status in sorted(HTTP_STATUS.items(), key=lambda item: item[1])
    ]
    return "\n".join(["| Status | Code | When | What to do |", "|---|---|---|---|", *rows])


def _vector() -> dict[str, str]:
    """Compute the values that a new client can be tried with."""
    seeds = bytes(range(32)), bytes(range(32, 64))
    client, relay = map(KeyPair.from_seed, seeds)
    nonces = {"client_nonce": sha256(b"CN").hexdigest(), "nonce": sha256(b"RN").hexdigest()}
    audience = "relay.example.org:443"
    about = {"nonce": nonces["nonce"], "publicKey": client.peer_id, "relay": relay.peer_id}
    envelope = _example_envelope()
    signed = {
        name: envelope.to_dict()[name] for name in ("from", "to", "timestamp", "type", "payload")
    }
    return nonces | {
        "client_seed": seeds[0].hex(),
        "relay_seed": seeds[1].hex(),
        "client": client.peer_id,
        "relay": relay.peer_id,
        "audience": audience,
        "challenge_text": canonical_text(
            {**about, "clientNonce": nonces["client_nonce"], "purpose": OVER_HTTP.challenge}
        ),
        "challenge_signature": sign_challenge(
            relay, **nonces, public_key=client.peer_id, purposes=OVER_HTTP
        ),
        "proof_text": canonical_text(
            {**about, "audience": audience, "purpose": OVER_HTTP.authenticate}
        ),
        "proof_signature": sign_proof(
            client,
            audience=audience,
            nonce=nonces["nonce"],
            relay=relay.peer_id,
            purposes=OVER_HTTP,
        ),
        "envelope_text": canonical_text(signed),
        "envelope_id": envelope.id,
        "envelope_signature": envelope.signature,
    }


def _example_envelope() -> Envelope:
    client, relay = (KeyPair.from_seed(bytes(range(start, start + 32))) for start in (0, 32))
    return seal(
        client,
        type="publish",
        payload={"text": "héllo", "n": 1},
        to=[relay.peer_id],
        timestamp_ms=1_767_225_600_000,
    )


VECTOR = _vector()
"""What the text tells of as its test vector, by name."""


# Examples


def _illustrate(operation: _Members) -> None:
    """Put an example beside the types of what is asked and answered."""
    asked = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if asked is not None and (example := _EXAMPLES.get(f"{operation['operationId']} asked")):
        asked["example"] = example
    for kind, content in operation["responses"]["200"].get("content", {}).items():
        if example := _EXAMPLES.get(operation["operationId"]):
            content["example"] = example
        if kind == "text/event-stream":
            content["schema"] = {"type": "string"}


def _examples() -> _Members:
    envelope = _example_envelope().to_dict()
    ends = {"id": envelope["id"], "to": VECTOR["relay"]}
    peer = {"publicKey": VECTOR["relay"], "online": True, "name": "bob", "lastSeen": 1767225600000}
    message = {"type": "message", "from": VECTOR["client"], "name": "alice", "envelope": envelope}
    about = {"publicKey": VECTOR["client"], "nonce": VECTOR["nonce"]}
    return {
        "challenge asked": {"publicKey": VECTOR["client"], "nonce": VECTOR["client_nonce"]},
        "challenge": {
            "nonce": VECTOR["nonce"],
            "relay": VECTOR["relay"],
            "signature": VECTOR["challenge_signature"],
            "expiresAt": 1767225610000,
        },
        "register asked": {**about, "signature": VECTOR["proof_signature"], "name": "alice"},
        "send asked": {"envelope": envelope},
        "send": {
            "receipts": [{"type": "receipt", **ends, "status": "stored"}],
            "errors": [],
            "pending": [],
        },
        "messages": {"messages": [message], "hasMore": False},
        "ack asked": {"ids": [envelope["id"]]},
        "nack asked": {"ids": [envelope["id"]], "delayMs": 60000},
        "ack": {"ok": True},
        "nack": {"ok": True},
        "disconnect": {"ok": True},
        "peers": {"peers": [peer], "total": 1},
        "events": "id: 1f3c9a52-7\nevent: message\n"
        f"data: {json.dumps(message, separators=(',', ':'))}\n\n",
    }


_EXAMPLES = _examples()
