"""
The API's own description: OpenAPI 3.1, made of the routes, the types and the code tables.

From it alone a client can be written: the text says what is signed and how, with
a vector that the code has computed. It is that of one relay: its bounds are those that are
set there. Made when somebody asks for it first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from http import HTTPStatus
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
from agora.codes import HTTP_STATUS
from agora.envelope import Envelope, seal
from agora.keys import PUBLIC_KEY_PREFIX, REFUSED_POINTS, KeyPair
from agora.protocol.proof import OVER_HTTP, sign_challenge, sign_proof
from agora.relay.config import RelayConfig
from agora.relay.http import api, events, shapes
from agora.relay.http.advice import (
    CLOSES,
    ELSEWHERE,
    MAY_FAIL,
    REASONS,
    Code,
    advice,
    by_status,
)
from agora.relay.http.callers import authenticate

__all__ = ["VECTOR", "document"]

_Members = dict[str, Any]


@lru_cache(maxsize=2)
def document(config: RelayConfig | None = None) -> _Members:
    """Return the OpenAPI document of a relay with these settings, or with the default ones."""
    config = config or RelayConfig()
    made = _of_the_framework()
    made["info"] = {
        "title": "Agora relay",
        "version": agora.__version__,
        "summary": "Signed messages between agents, by HTTP.",
        "description": _description(config),
        "license": {"name": "MIT", "identifier": "MIT"},
    }
    made["tags"] = [{"name": name, "description": said} for name, (said, _) in _TAGS.items()]
    made["components"] = {
        "schemas": _schemas(config),
        "securitySchemes": {"token": _TOKEN},
        "headers": _headers(config),
        "responses": {name: _error(codes) for name, codes in _error_responses().items()},
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


def _schemas(config: RelayConfig) -> _Members:
    """Return the types as msgspec tells of them, with what it cannot know."""
    kinds = [getattr(shapes, name) for name in shapes.__all__]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    for name in ("RegisterRequest", "Peer", "OnlinePeer"):
        text = next(one for one in schemas[name]["properties"]["name"]["anyOf"] if _is_text(one))
        text["maxLength"] = config.max_name_length
    asked = schemas["SendRequest"]["properties"]
    # It is read as any object, so that the relay itself says what is wrong with it.
    asked["envelope"] = _reference("schemas", "Envelope")
    peers = {"type": "array", "items": schemas["Envelope"]["properties"]["from"], "minItems": 1}
    everyone = {"type": "array", "items": {"const": "*"}, "minItems": 1, "maxItems": 1}
    to = schemas["Envelope"]["properties"]["to"]
    schemas["Envelope"]["properties"]["to"] = {
        "anyOf": [peers, everyone],
        "description": to["description"],
    }
    one, _, nothing = asked["to"]["anyOf"]
    several = peers | {"maxItems": config.max_recipients}
    asked["to"]["anyOf"] = [one, several, everyone, nothing]
    # Anybody could sign with these.
    weak = [PUBLIC_KEY_PREFIX + point for point in sorted(REFUSED_POINTS)]
    schemas["ChallengeRequest"]["properties"]["publicKey"]["not"] = {"enum": weak}
    schemas["Error"]["properties"]["code"]["enum"] = sorted(_codes())
    schemas["Error"]["properties"]["reason"]["enum"] = list(REASONS)
    schemas["Event"] = _event()
    return schemas


_BY_NAME = ("Message", "Presence", "Receipt", "Error")
"""Types whose name is the event's, and their data's ``type``."""


def _event() -> _Members:
    """Return what each event of a stream is, as programs that read streams give it."""
    kinds = {one.lower(): one for one in (*_BY_NAME, "Missed", "Closed")}
    return {
        "title": "Event",
        "description": "One event of the stream, by the fields of its lines.",
        "type": "object",
        "properties": {
            "event": {"enum": [*kinds], "description": "The name, which tells what the data is."},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": [_reference("schemas", one) for one in kinds.values()]},
                "description": "JSON: of the type of that name.",
            },
            "id": {"type": "string", "description": "For `Last-Event-ID`."},
        },
        "required": ["event", "data"],
    }


def _is_text(schema: _Members) -> bool:
    return bool(schema.get("type") == "string")


def _codes() -> list[Code]:
    """Return every code that the API may give, by status."""
    found = {code for codes in (*MAY_FAIL.values(), ELSEWHERE) for code in codes}
    return sorted(found, key=lambda code: (HTTP_STATUS[code], code))


# Operations


def _complete(operation: _Members, handler: Any) -> None:
    """Say of an operation what types do not: why it may fail, and what comes with an answer."""
    name = handler.__name__
    summary, _, more = (getdoc(handler) or "").partition("\n\n")
    operation["operationId"] = name
    operation["tags"] = [tag for tag, (_, names) in _TAGS.items() if name in names]
    operation["summary"] = " ".join(summary.split()).rstrip(".")
    operation["description"] = more or summary
    operation["security"] = [{"token": []}] if "token" in handler.__annotations__ else []
    operation.pop("deprecated", None)
    for parameter in operation.get("parameters", []):
        _complete_parameter(name, parameter)
    _illustrate(operation)
    well = operation["responses"]["200"]
    well |= {"description": _WELL[name], "headers": _told("RateLimit-Policy", "RateLimit")}
    if links := _LINKS.get(name):
        well["links"] = links
    operation["responses"] = {"200": well}
    if name == "send":
        [(kind, content)] = well["content"].items()
        operation["responses"]["202"] = well | {
            "description": "It goes on; for the recipients in `pending` nothing is known yet.",
            "content": {kind: content | {"example": _EXAMPLES["send later"]}},
        }
    for status, codes in by_status(MAY_FAIL[name]).items():
        named = next(one for one, said in _error_responses().items() if said == codes)
        operation["responses"][str(status)] = _reference("responses", named)


def _complete_parameter(operation: str, parameter: _Members) -> None:
    for name in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(name, None)
    more = dict(_PARAMETERS.get((operation, parameter["name"]), {}))
    if example := more.pop("example", None):
        parameter["example"] = example
    schema = parameter["schema"]
    schema |= more
    if more.get("default", "") is None:
        del schema["default"]


_MESSAGE_IDS = {"ids": ["$response.body#/messages/0/envelope/id"]}

_LINKS: dict[str, _Members] = {
    "challenge": {
        "Register": {
            "operationId": "register",
            "description": "Sign `nonce`, and send it back with the signature.",
            "requestBody": {
                "publicKey": "$request.body#/publicKey",
                "nonce": "$response.body#/nonce",
            },
        }
    },
    "messages": {
        "Ack": {
            "operationId": "ack",
            "description": "Ack each message when you are done with it.",
            "requestBody": _MESSAGE_IDS,
        },
        "Nack": {
            "operationId": "nack",
            "description": "Or have it come again.",
            "requestBody": _MESSAGE_IDS,
        },
    },
    "peers": {
        "Next": {
            "operationId": "peers",
            "description": "The next page, where there is one.",
            "parameters": {"after": "$response.body#/next"},
        }
    },
}
"""What is asked with an answer."""

_PEER = "302a300506032b6570032100[0-9a-f]{64}"

_PARAMETERS: dict[tuple[str, str], _Members] = {
    ("events", "wait"): {"default": None},
    ("events", "presence"): {
        "pattern": f"^(all|none|{_PEER}( *, *{_PEER})*)$",
        "example": "all",
    },
    ("events", "Last-Event-ID"): {"example": "1f3c9a52-7"},
    ("replay", "since"): {
        "default": None,
        "anyOf": [{"format": "date-time"}, {"format": "date"}],
        "example": "2026-01-01T00:00:00Z",
    },
    ("send", "traceparent"): {"example": shapes.TRACEPARENT},
}
"""What the framework cannot know of parameters; a default of None is none."""

_TAGS = {
    "Tokens": ("Prove a key, and get a token for it.", ("challenge", "register", "disconnect")),
    "Sending": ("Hand envelopes to the relay.", ("send",)),
    "Receiving": (
        "Get mail and events, and settle them.",
        ("messages", "ack", "nack", "replay", "events"),
    ),
    "Peers": ("Who can be reached.", ("peers",)),
}
"""What operations are listed under, with the names of their handlers."""


_WELL = {
    "challenge": "What to sign.",
    "register": "The token, and what a peer that comes should know.",
    "disconnect": "The token is good no longer.",
    "send": "What became of it, for each recipient; at least one has it.",
    "messages": "Mail, the oldest first; none when nothing came in time.",
    "ack": "They do not come again.",
    "nack": "They come again.",
    "replay": "A page of it.",
    "peers": "A page of peers.",
    "events": "Events, one after the other, for as long as both sides like.",
}


# Errors


@lru_cache(maxsize=1)
def _error_responses() -> dict[str, list[Code]]:
    """Return the error answers by name: one for each status and set of codes that a request has."""
    found: dict[str, list[Code]] = {}
    for operation, may_fail in MAY_FAIL.items():
        for status, codes in by_status(may_fail).items():
            if codes not in found.values():
                phrase = HTTPStatus(status).phrase.title().replace(" ", "")
                found[phrase if phrase not in found else f"{phrase}Of{operation.title()}"] = codes
    return found


def _error(codes: list[Code]) -> _Members:
    status = HTTP_STATUS[codes[0]]
    headers = ["RateLimit-Policy", "RateLimit"]
    headers += ["WWW-Authenticate"] * (status == 401) + ["Retry-After"] * (status in (429, 503))
    headers += ["Accept", "Accept-Encoding"] * (status == 415)
    example = {"error": {"code": codes[0], "message": "What is wrong, for people"}}
    if status == 429:
        example["error"]["retryAfterMs"] = 1500  # type: ignore[assignment]  # mixed on purpose
    of_these = {"properties": {"error": {"properties": {"code": {"enum": list(codes)}}}}}
    return {
        "description": " · ".join(f"`{code}`" for code in codes),
        "headers": _told(*headers),
        "content": {
            "application/json": {
                "schema": {"allOf": [_reference("schemas", "ErrorAnswer"), of_these]},
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


def _headers(config: RelayConfig) -> _Members:
    address, key = config.rate_limit_max_address_requests, config.rate_limit_max_requests
    window = math.ceil(config.rate_limit_window_ms / 1000)
    return {
        "RateLimit-Policy": _header(
            "What is allowed: `q` requests in `w` seconds, of an address and of a key.",
            example=f'"address";q={address};w={window}, "key";q={key};w={window}',
        ),
        "RateLimit": _header(
            "What is left: `r` requests; all of them again in `t` seconds.",
            example=f'"address";r={address - 1};t=1, "key";r={key - 1};t=1',
        ),
        "Retry-After": {
            "description": "Seconds to wait before asking again; always there with 429.",
            "schema": {"type": "integer", "minimum": 0},
        },
        "WWW-Authenticate": _header(
            "`Bearer`, and whether a token was there that is none (RFC 6750).",
            example='Bearer realm="agora", error="invalid_token"',
        ),
        "Accept": _header("What a body may be, where it was something else.", "application/json"),
        "Accept-Encoding": _header(
            "How a body may be coded, where it was otherwise: not at all.", example="identity"
        ),
    }


def _header(description: str, example: str) -> _Members:
    return {"description": description, "schema": {"type": "string"}, "example": example}


# The text


def _description(config: RelayConfig) -> str:
    text = resources.files("agora.relay.http").joinpath("description.md").read_text("utf-8")
    told = {
        "codes": _code_table(config),
        "reasons": _rows((f"`{code}`", f"`{one}`", when) for one, (code, when) in REASONS.items()),
        "closes": _rows(CLOSES.items()),
        "timeout": f"{config.register_timeout:g}",
        "lifetime": f"{config.token_lifetime:g}",
        "max_wait": f"{config.http_max_wait:g}",
        "ack_timeout": f"{config.ack_timeout:g}",
        "window": str(config.window_messages),
        "grace": f"{config.http_session_grace:g}",
        "messages": str(config.rate_limit_max_messages),
        "message_window": f"{config.rate_limit_window_ms / 1000:g}",
        "broadcast_cost": str(config.broadcast_cost),
        "max_watched": str(config.max_watched),
        "heartbeat": f"{events.HEARTBEAT_EVERY:g}",
        "dedup": f"{config.dedup_max_age / 60:g}",
        "backlog": f"{config.http_backlog_bytes:,}",
    }
    return Template(text).substitute(VECTOR | told)


def _code_table(config: RelayConfig) -> str:
    said = advice(config)
    rows = ((str(HTTP_STATUS[one]), f"`{one}`", said[one].when, said[one].do) for one in _codes())
    return _rows([("Status", "Code", "When", "What to do"), ("---",) * 4, *rows])


def _rows(rows: Iterable[Iterable[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


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
            content["schema"] = _reference("schemas", "Event")


def _examples() -> _Members:
    envelope = _example_envelope().to_dict()
    ends = {"id": envelope["id"], "to": VECTOR["relay"]}
    peer = {"publicKey": VECTOR["relay"], "online": True, "name": "bob", "lastSeen": 1767225600000}
    message = {"type": "message", "from": VECTOR["client"], "name": "alice", "envelope": envelope}
    about = {"publicKey": VECTOR["client"], "nonce": VECTOR["nonce"]}
    come = {"publicKey": VECTOR["relay"], "name": "bob"}
    presence = {"type": "presence", "online": [come], "offline": []}
    closed = {"code": 1001, "reason": "going_away"}
    announced = {
        "maxFrameBytes": 262_144,
        "maxRecipients": 100,
        "window": 256,
        "windowBytes": 524_288,
        "messagesPerSecond": 20,
        "mailboxMessages": 1_000,
        "retentionSeconds": 604_800,
    }
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
        "register": {
            "token": "HEAD.CLAIMS.SIGNATURE",
            "expiresAt": 1767229200000,
            "sessionId": "4f2c6e1a-9b7d-4f0e-8a55-2f1f0c9d3b11",
            "relay": VECTOR["relay"],
            "now": 1767225600000,
            "pending": 1,
            "peers": [peer],
            "peersTotal": 1,
            "limits": announced,
        },
        "send": {
            "receipts": [{"type": "receipt", **ends, "status": "stored"}],
            "errors": [],
            "pending": [],
        },
        "send later": {"receipts": [], "errors": [], "pending": [VECTOR["relay"]]},
        "messages": {"messages": [message], "hasMore": False},
        "replay": {"messages": [message | {"stored": True}], "hasMore": False, "next": 17},
        "ack asked": {"ids": [envelope["id"]]},
        "nack asked": {"ids": [envelope["id"]], "delayMs": 60000},
        "ack": {"ok": True},
        "nack": {"ok": True},
        "disconnect": {"ok": True},
        "peers": {"peers": [peer], "total": 1},
        "events": "retry: 1000\nid: 1f3c9a52-5\n\n"
        f"id: 1f3c9a52-6\nevent: presence\ndata: {_compact(presence)}\n\n"
        f"id: 1f3c9a52-7\nevent: message\ndata: {_compact(message)}\n\n"
        f"event: closed\ndata: {_compact(closed)}\n\n",
    }


def _compact(value: _Members) -> str:
    return json.dumps(value, separators=(",", ":"))


_EXAMPLES = _examples()
