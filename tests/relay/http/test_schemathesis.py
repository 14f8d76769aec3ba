"""The whole API, attacked from its own document: whatever is asked, the answer is one of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error

from agora.keys import KeyPair
from agora.protocol.proof import OVER_HTTP, audience_of, sign_proof
from agora.relay.http.document import document
from agora.testing.relay import relay_in_thread

SCHEMA = schemathesis.openapi.from_dict(document())

BRIEF = schemathesis.openapi.from_dict(
    document(),
    config=schemathesis.Config.from_dict({"phases": {"coverage": {"enabled": False}}}),
)
"""The same without the cases that try every bound: for strangers, who are all sent away alike."""

STREAM_SECONDS = 0.05
"""An event stream has no end: so long it is read."""


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


def attack(case: Any, url: str, token: str | None) -> None:
    """Ask what *case* says, and hold the answer to the document, by every check there is."""
    if token is not None and case.operation.path == "/v1/disconnect":
        token = token_for(url, KeyPair.generate())
    options: dict[str, Any] = {} if token is None else with_token(case, token)
    is_stream = case.operation.path == "/v1/events"
    options |= {"timeout": STREAM_SECONDS} if is_stream and token is not None else {}
    case.call_and_validate(base_url=url, **options)


def with_token(case: Any, token: str) -> dict[str, Any]:
    """Have *case* bring the token, and return how to say that it was not made up."""
    headers = {"Authorization": f"Bearer {token}"}
    case.headers.update(headers)  # or it would count as one that leaves out what it must have
    return {"headers": headers}


@SCHEMA.parametrize()
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
def test_every_answer_is_one_of_the_document(case: Any, url: str, token: str) -> None:
    attack(case, url, token)


@BRIEF.parametrize()
@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])
def test_every_answer_to_a_stranger_is_one_of_the_document(case: Any, url: str) -> None:
    attack(case, url, None)


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


@pytest.mark.long
@pytest.mark.timeout(900)
@SCHEMA.parametrize()
@settings(max_examples=300, deadline=None, suppress_health_check=[*HealthCheck])
def test_every_answer_of_many_to_a_stranger_is_one_of_the_document(case: Any, url: str) -> None:
    attack(case, url, None)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_one_request_after_the_other_is_answered_by_the_document(url: str, token: str) -> None:
    linked = SCHEMA.exclude(path=["/v1/disconnect", "/v1/events"])

    class Conversation(linked.as_state_machine()):  # type: ignore[misc]  # made at run time
        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"base_url": url, **with_token(case, token)}

    Conversation.run(
        settings=settings(
            max_examples=100,
            stateful_step_count=10,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=[*HealthCheck],
        )
    )
