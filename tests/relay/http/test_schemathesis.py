"""The whole API, attacked from its own document: whatever is asked, the answer is one of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    negative_data_rejection,
    positive_data_acceptance,
)

from agora.keys import KeyPair
from agora.protocol.proof import OVER_HTTP, audience_of, sign_proof
from agora.relay.http.document import document
from agora.testing.relay import relay_in_thread

# An event stream has no end that could be waited for; test_events.py has it.
SCHEMA = schemathesis.openapi.from_dict(document()).exclude(path="/v1/events")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A relay that answers at once, and as often as it is asked."""
    limits = {"rate_limit_enabled": False, "http_max_wait": 0.02, "retain": 60.0}
    with relay_in_thread(http_port=0, **limits) as relay:
        assert relay.http_url is not None
        yield relay.http_url


def token_for(url: str, keys: KeyPair) -> str:
    """Register at *url*, and return the token."""
    about = {"publicKey": keys.peer_id, "nonce": "00" * 32}
    told = requests.post(f"{url}/v1/challenge", json=about, timeout=10).json()
    proof = sign_proof(
        keys,
        audience=audience_of(url),
        nonce=told["nonce"],
        relay=told["relay"],
        purposes=OVER_HTTP,
    )
    about |= {"nonce": told["nonce"], "signature": proof}
    token: str = requests.post(f"{url}/v1/register", json=about, timeout=10).json()["token"]
    return token


@pytest.fixture(scope="module")
def token(url: str) -> str:
    """A token that is good."""
    return token_for(url, KeyPair.generate())


def attack(case: Any, url: str, token: str) -> None:
    """Ask what *case* says, and hold the answer to the document."""
    if case.operation.path == "/v1/disconnect":
        token = token_for(url, KeyPair.generate())
    # What is signed cannot be guessed: of these a right shape alone is not enough.
    left_out = [positive_data_acceptance] if case.operation.path in _SIGNED else []
    # Parameters that are not known mean nothing, as unknown members of frames.
    left_out += [negative_data_rejection] if case.method == "GET" else []
    headers = {"Authorization": f"Bearer {token}"}
    case.call_and_validate(base_url=url, headers=headers, excluded_checks=left_out)


_SIGNED = ("/v1/challenge", "/v1/register", "/v1/send")


@SCHEMA.parametrize()
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
def test_every_answer_is_one_of_the_document(case: Any, url: str, token: str) -> None:
    attack(case, url, token)


def test_what_is_not_enabled_is_an_answer_of_the_document_too() -> None:
    with relay_in_thread(http_port=0) as relay:
        assert relay.http_url is not None
        case = SCHEMA["/v1/messages/replay"]["GET"].Case()
        token = token_for(relay.http_url, KeyPair.generate())
        answer = case.call(base_url=relay.http_url, headers={"Authorization": f"Bearer {token}"})

    assert answer.status_code == 501
    # Its status is one that a fault of the server would have.
    case.validate_response(answer, excluded_checks=[not_a_server_error])


@pytest.mark.long
@pytest.mark.timeout(900)
@SCHEMA.parametrize()
@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
def test_every_answer_of_many_is_one_of_the_document(case: Any, url: str, token: str) -> None:
    attack(case, url, token)
