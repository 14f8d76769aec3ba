"""What peers say to each other through a relay, frame by frame, over plain WebSockets."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from agora.envelope import open_envelope, seal, seal_legacy
from agora.keys import KeyPair
from agora.relay import Relay
from agora.sealing import now_ms
from agora.testing.conversation import keys_of
from tests.support import RawPeer, letter, next_frame, raw_peer, socket_to

PING, PONG = {"type": "ping"}, {"type": "pong"}


def delivery(sender: RawPeer, envelope: Any, **more: Any) -> dict[str, Any]:
    """Return the frame that brings *envelope*."""
    return {"type": "message", "from": sender.id, **more, "envelope": envelope.to_dict()}


# Who is there


async def test_a_registered_peer_is_told_its_session_and_who_is_there(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        assert alice.welcome["peers"] == []
        assert bob.welcome == {
            "type": "registered",
            "publicKey": bob.id,
            "sessionId": bob.welcome["sessionId"],
            "peers": [{"publicKey": alice.id}],
            "relay": relay.peer_id,
        }
        assert uuid.UUID(bob.welcome["sessionId"]).version == 4


async def test_peers_are_listed_in_the_order_they_came_and_absent_storage_peers_last() -> None:
    absent, present = KeyPair.generate(), KeyPair.generate()
    storage_peers = (absent.peer_id, present.peer_id)

    async with (
        Relay(port=0, storage_peers=storage_peers) as relay,
        raw_peer(relay.url) as first,
        raw_peer(relay.url, present),
        raw_peer(relay.url) as third,
        raw_peer(relay.url) as last,
    ):
        listed = [peer["publicKey"] for peer in last.welcome["peers"]]

    assert listed == [first.id, present.peer_id, third.id, absent.peer_id]


async def test_others_hear_who_comes_and_who_goes(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice:
        async with raw_peer(relay.url) as bob:
            assert await alice.hear() == {"type": "peer_online", "publicKey": bob.id}

        assert await alice.hear() == {"type": "peer_offline", "publicKey": bob.id}


async def test_a_name_is_shown_wherever_its_peer_is(relay: Relay) -> None:
    async with raw_peer(relay.url) as bob, raw_peer(relay.url, name=" Alice\x07 ") as alice:
        named = {"publicKey": alice.id, "name": "Alice"}
        assert await bob.hear() == {"type": "peer_online", **named}

        envelope = await alice.send(bob.id)
        assert await bob.hear() == delivery(alice, envelope, name="Alice")

        async with raw_peer(relay.url) as carol:
            assert {"publicKey": alice.id, "name": "Alice"} in carol.welcome["peers"]

        await alice.socket.close()
        assert {"type": "peer_offline", **named} in [await bob.hear() for _ in range(3)]


@pytest.mark.parametrize("name", ["...125531b8", "@125531b8", "   ", "", 7, None, ["x"]])
async def test_a_name_that_is_none_is_left_out(relay: Relay, name: Any) -> None:
    async with raw_peer(relay.url) as bob, socket_to(relay.url) as socket:
        alice = KeyPair.generate().peer_id
        await socket.send(json.dumps({"type": "register", "publicKey": alice, "name": name}))

        assert await bob.hear() == {"type": "peer_online", "publicKey": alice}


async def test_every_session_of_a_key_gets_its_messages(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with (
        raw_peer(relay.url) as alice,
        raw_peer(relay.url, keys) as first,
        raw_peer(relay.url, keys) as second,
    ):
        envelope = await alice.send(keys.peer_id)

        assert await first.hear() == delivery(alice, envelope)
        assert await second.hear() == delivery(alice, envelope)
        assert first.welcome["sessionId"] != second.welcome["sessionId"]


async def test_a_peer_is_online_from_its_first_session_to_its_last(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with raw_peer(relay.url) as alice:
        async with raw_peer(relay.url, keys):
            async with raw_peer(relay.url, keys):
                pass
            await alice.send(keys.peer_id)
            heard = await alice.answers()
            assert heard == [{"type": "peer_online", "publicKey": keys.peer_id}]

        assert await alice.hear() == {"type": "peer_offline", "publicKey": keys.peer_id}


async def test_a_session_that_goes_does_not_take_the_others_with_it(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with raw_peer(relay.url) as alice, raw_peer(relay.url, keys) as stays:
        async with raw_peer(relay.url, keys):
            pass
        envelope = await alice.send(keys.peer_id)

        assert await stays.hear() == delivery(alice, envelope)


# What they say


async def test_a_message_comes_as_it_was_signed_without_what_was_not(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        await alice.hear()  # bob is there
        envelope = letter(alice.keys, bob.id, {"text": "grüße \ud83d\ude00", "n": [1, 0.5, None]})
        members = envelope.to_dict()
        await alice.say(
            {"type": "message", "to": bob.id, "envelope": members | {"unsigned": "smuggled"}}
        )

        heard = await bob.hear()
        assert heard == {"type": "message", "from": alice.id, "envelope": members}
        assert open_envelope(heard["envelope"]).payload == envelope.payload
        assert await alice.answers() == []


async def test_a_message_to_oneself_comes_back(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice:
        envelope = await alice.send(alice.id)

        assert await alice.hear() == delivery(alice, envelope)


async def test_a_reply_goes_the_same_way_back(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        await alice.hear()  # bob is there
        question = await alice.send(bob.id, type="request")
        answer = await bob.send(alice.id, type="response", in_reply_to=question.id)

        assert await alice.hear() == delivery(bob, answer)


async def test_a_broadcast_goes_to_everyone_else_once(relay: Relay) -> None:
    keys = KeyPair.generate()

    async with (
        raw_peer(relay.url, keys) as alice,
        raw_peer(relay.url, keys) as other_session,
        raw_peer(relay.url) as bob,
        raw_peer(relay.url) as carol,
    ):
        envelope = letter(keys, "*")
        await alice.say({"type": "broadcast", "envelope": envelope.to_dict()})
        await alice.answers()

        assert (await bob.answers())[-1] == delivery(alice, envelope)
        assert await carol.answers() == [delivery(alice, envelope)]
        assert await alice.payloads(0) == []
        assert not [f for f in await other_session.answers() if f["type"] == "message"]


async def test_a_broadcast_need_not_name_its_recipients(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        envelope = letter(alice.keys, alice.id)
        await alice.say({"type": "broadcast", "envelope": envelope.to_dict()})

        assert await bob.hear() == delivery(alice, envelope)


async def test_one_envelope_goes_to_each_of_its_recipients(relay: Relay) -> None:
    async with (
        raw_peer(relay.url) as alice,
        raw_peer(relay.url) as bob,
        raw_peer(relay.url) as carol,
    ):
        envelope = seal(
            alice.keys, type="publish", payload="both", to=[bob.id, carol.id], timestamp_ms=now_ms()
        )
        for to in envelope.to:
            await alice.say({"type": "message", "to": to, "envelope": envelope.to_dict()})
        await alice.answers()

        assert (await bob.answers())[-1] == delivery(alice, envelope)
        assert (await carol.answers())[-1] == delivery(alice, envelope)


async def test_a_ping_is_answered_before_and_after_registration(relay: Relay) -> None:
    async with socket_to(relay.url) as socket:
        await socket.send(json.dumps(PING))
        assert await next_frame(socket) == PONG

    async with raw_peer(relay.url) as alice:
        await alice.say(PING)
        assert await alice.hear() == PONG


async def test_frames_are_read_from_text_and_binary_messages_alike(relay: Relay) -> None:
    async with socket_to(relay.url) as socket:
        await socket.send(json.dumps(PING).encode())

        assert await next_frame(socket) == PONG


async def test_a_message_may_come_in_fragments(relay: Relay) -> None:
    async with socket_to(relay.url) as socket:
        await socket.send(['{"type"', "", ':"pi', 'ng"}'])

        assert await next_frame(socket) == PONG


# What they must not


async def heard_error(peer: RawPeer, frame: Any) -> dict[str, Any]:
    """Say *frame*, which is answered by an error and nothing else."""
    await peer.say(frame)
    (error,) = await peer.answers()
    assert error.pop("type") == "error"
    return error


NOT_JSON = ["", "nonsense", "{", '{"type":"ping"', "null", "[1,", "\x00", "NaN", "1e"]


@pytest.mark.parametrize("text", NOT_JSON)
async def test_a_message_that_is_not_json_is_refused_and_the_connection_stays(
    relay: Relay, text: str
) -> None:
    async with socket_to(relay.url) as socket:
        await socket.send(text)

        assert await next_frame(socket) == {
            "type": "error",
            "message": "Invalid message format",
            "code": "invalid_message",
        }
        await socket.send(json.dumps(PING))
        assert await next_frame(socket) == PONG


@pytest.mark.parametrize("frame", [{}, [], 7, "register", {"type": "message"}, {"type": "x"}])
async def test_nothing_but_ping_goes_before_registration(relay: Relay, frame: Any) -> None:
    async with socket_to(relay.url) as socket:
        await socket.send(json.dumps(frame))

        assert await next_frame(socket) == {
            "type": "error",
            "message": "Not registered: send registration message first",
            "code": "not_registered",
        }


@pytest.mark.parametrize("key", [None, "", 7, "me", "00" * 44, keys_of("alice").peer_id.upper()])
async def test_only_a_peer_id_registers(relay: Relay, key: Any) -> None:
    async with socket_to(relay.url) as socket:
        await socket.send(json.dumps({"type": "register", "publicKey": key}))

        error = await next_frame(socket)
        assert error["message"] == "Invalid registration: missing or invalid publicKey"
        assert error["code"] == "invalid_message"


async def test_a_second_registration_is_refused_and_changes_nothing(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice:
        error = await heard_error(alice, {"type": "register", "publicKey": alice.id})

        assert error == {
            "message": "Unknown message type: register",
            "code": "invalid_message",
        }
        await alice.send(alice.id)
        assert (await alice.hear())["type"] == "message"


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({}, "Unknown message type: undefined"),
        ([], "Unknown message type: undefined"),
        ({"type": None}, "Unknown message type: null"),
        ({"type": "dance"}, "Unknown message type: dance"),
        ({"type": "x" * 500}, "Unknown message type: " + "x" * 200 + "…"),
        ({"type": "message"}, 'Invalid message: missing or invalid "to" field'),
        ({"type": "message", "to": ""}, 'Invalid message: missing or invalid "to" field'),
        ({"type": "message", "to": "x"}, 'Invalid message: missing or invalid "envelope" field'),
        (
            {"type": "message", "to": "x", "envelope": "opaque"},
            'Invalid message: missing or invalid "envelope" field',
        ),
        ({"type": "broadcast"}, 'Invalid broadcast: missing or invalid "envelope" field'),
        (
            {"type": "broadcast", "envelope": 1},
            'Invalid broadcast: missing or invalid "envelope" field',
        ),
    ],
)
async def test_a_frame_of_the_wrong_shape_is_refused_in_the_words_of_the_reference(
    relay: Relay, frame: Any, message: str
) -> None:
    async with raw_peer(relay.url) as alice:
        error = await heard_error(alice, frame)

        assert (error["code"], error["message"]) == ("invalid_message", message)


async def test_an_absent_recipient_is_said_with_the_id_of_what_did_not_go(relay: Relay) -> None:
    nobody = KeyPair.generate().peer_id

    async with raw_peer(relay.url) as alice:
        envelope = await alice.send(nobody)

        assert await alice.answers() == [
            {
                "type": "error",
                "message": f"Recipient not connected: {nobody}",
                "code": "unknown_recipient",
                "id": envelope.id,
                "to": nobody,
            }
        ]


async def test_what_reached_nobody_may_be_sent_again(relay: Relay) -> None:
    later = KeyPair.generate()

    async with raw_peer(relay.url) as alice:
        envelope = await alice.send(later.peer_id)
        assert (await alice.hear())["code"] == "unknown_recipient"

        async with raw_peer(relay.url, later) as bob:
            await alice.say({"type": "message", "to": bob.id, "envelope": envelope.to_dict()})
            assert await bob.hear() == delivery(alice, envelope)


async def test_a_duplicate_is_answered_with_its_id_and_not_delivered(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        envelope = await alice.send(bob.id)
        await bob.hear()
        frame = {"type": "message", "to": bob.id, "envelope": envelope.to_dict()}
        await alice.say(frame)

        (_, error) = await alice.answers()
        assert error == {
            "type": "error",
            "message": f"Duplicate envelope: {envelope.id}",
            "code": "duplicate",
            "id": envelope.id,
            "to": bob.id,
        }
        assert await bob.answers() == []


async def test_duplicates_go_through_when_they_are_not_looked_for() -> None:
    async with Relay(port=0, dedup_enabled=False) as relay, raw_peer(relay.url) as alice:
        envelope = await alice.send(alice.id)
        await alice.say({"type": "message", "to": alice.id, "envelope": envelope.to_dict()})

        assert await alice.answers() == [delivery(alice, envelope)] * 2


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"payload": "forged"}, "invalid_envelope", "Invalid envelope: id_mismatch"),
        ({"signature": "00" * 64}, "invalid_envelope", "Invalid envelope: signature_invalid"),
        ({"signature": None}, "invalid_envelope", "Invalid envelope: signature_invalid"),
        ({"to": []}, "invalid_envelope", "Invalid envelope: invalid_routing_fields"),
        (
            {"from": KeyPair.generate().peer_id},
            "sender_mismatch",
            "Envelope sender does not match registered public key",
        ),
        (
            {"to": [KeyPair.generate().peer_id]},
            "recipient_mismatch",
            "Envelope recipients do not include requested relay recipient",
        ),
    ],
)
async def test_an_envelope_that_is_not_genuine_is_refused_and_reaches_nobody(
    relay: Relay, change: dict[str, Any], code: str, message: str
) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        await alice.hear()  # bob is there
        members = letter(alice.keys, bob.id).to_dict() | change
        error = await heard_error(alice, {"type": "message", "to": bob.id, "envelope": members})

        assert (error["code"], error["message"]) == (code, message)
        assert (error["id"], error["to"]) == (members["id"], bob.id)
        assert await bob.answers() == []


async def test_a_tampered_copy_does_not_use_up_the_id_of_the_genuine_one(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob:
        await alice.hear()  # bob is there
        envelope = letter(alice.keys, bob.id)
        tampered = envelope.to_dict() | {"signature": "00" * 64}
        await heard_error(alice, {"type": "message", "to": bob.id, "envelope": tampered})
        await alice.say({"type": "message", "to": bob.id, "envelope": envelope.to_dict()})

        assert await bob.hear() == delivery(alice, envelope)


# Older envelopes


def legacy_letter(sender: KeyPair) -> Any:
    """Sign an envelope of the seed's date: a sender and no recipients."""
    return seal_legacy(sender, type="publish", payload="old", timestamp_ms=now_ms())


async def test_an_older_envelope_is_refused_by_default(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice:
        members = legacy_letter(alice.keys).to_dict()
        error = await heard_error(alice, {"type": "message", "to": alice.id, "envelope": members})

        assert error["code"] == "invalid_envelope"


async def test_the_legacy_policy_takes_older_envelopes_that_verify() -> None:
    async with Relay(port=0, envelopes="legacy") as relay, raw_peer(relay.url) as alice:
        old = legacy_letter(alice.keys)
        await alice.say({"type": "message", "to": alice.id, "envelope": old.to_dict()})
        new = await alice.send(alice.id)
        assert await alice.answers() == [delivery(alice, old), delivery(alice, new)]

        forged = old.to_dict() | {"payload": "forged"}
        error = await heard_error(alice, {"type": "message", "to": alice.id, "envelope": forged})
        assert error["reason"] == "id_mismatch"


async def test_the_open_policy_hands_on_whatever_it_gets() -> None:
    async with Relay(port=0, envelopes="open") as relay, raw_peer(relay.url) as alice:
        for envelope in ("opaque", {"any": "thing"}, [1, None], 7):
            await alice.say({"type": "message", "to": alice.id, "envelope": envelope})
            heard = await alice.hear()
            assert heard == {"type": "message", "from": alice.id, "envelope": envelope}


async def test_the_open_policy_still_says_whose_connection_it_was() -> None:
    async with Relay(port=0, envelopes="open") as relay, raw_peer(relay.url) as mallory:
        forged = letter(KeyPair.generate(), mallory.id)
        await mallory.say({"type": "message", "to": mallory.id, "envelope": forged.to_dict()})

        assert await mallory.hear() == delivery(mallory, forged)


# The relay's own words


async def test_a_request_for_the_peer_list_is_answered_by_the_relay_itself(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob, raw_peer(relay.url):
        request = await alice.send(relay.peer_id, {}, type="peer_list_request")

        frame = next(f for f in await alice.answers() if f["type"] == "message")
        answer = open_envelope(frame["envelope"])
        assert frame["from"] == answer.sender == relay.peer_id
        assert (answer.type, answer.in_reply_to) == ("peer_list_response", request.id)
        assert answer.to == (alice.id,)
        payload = frame["envelope"]["payload"]
        assert payload["totalPeers"] == 2
        assert payload["relayPublicKey"] == relay.peer_id
        assert payload["peers"][0]["publicKey"] == bob.id
        assert abs(payload["peers"][0]["lastSeen"] - now_ms()) < 60_000


async def test_a_peer_list_can_be_cut_short(relay: Relay) -> None:
    async with raw_peer(relay.url) as alice, raw_peer(relay.url) as bob, raw_peer(relay.url):
        filters = {"filters": {"limit": 1}}
        await alice.send(relay.peer_id, filters, type="peer_list_request")

        frame = next(f for f in await alice.answers() if f["type"] == "message")
        payload = frame["envelope"]["payload"]
        assert [peer["publicKey"] for peer in payload["peers"]] == [bob.id]
        assert payload["totalPeers"] == 2
