"""``agora send`` exits with 0 when the relay has taken it; ``agora listen`` tells it all."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from agora import sync
from agora.canonical import Json
from agora.keys import KeyPair
from agora.sealing import seal
from agora.testing import RelayInThread, relay_in_thread
from tests.cli.conftest import ALICE, BOB, DEADLINE, Shell
from tests.support import eventually

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals and pipes are POSIX")

ALICE_SHORT = f"@{ALICE.peer_id[-8:]}"


@pytest.fixture
def url() -> Iterator[str]:
    """A relay with a mailbox for bob."""
    with relay_in_thread(storage_peers=(BOB.peer_id,)) as relay:
        yield relay.url


def payloads_for_bob(url: str, count: int) -> list[Json]:
    with sync.Client(url, BOB) as bob:
        return [next(bob).payload for _ in range(count)]


@contextmanager
def reference_relay(answer: str | None = '{"type":"pong"}') -> Iterator[str]:
    """A relay of the reference dialect that registers everyone, and answers all else alike."""

    def serve_one(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            asked = json.loads(connection.recv())
            registered = {"type": "registered", "publicKey": asked["publicKey"], "peers": []}
            connection.send(json.dumps(registered))
            for _ in connection:
                if answer and answer.startswith("close"):
                    connection.close(int(answer.split()[1]))
                elif answer:
                    connection.send(answer)

    with serve(serve_one, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()


# Sending


def test_what_was_sent_was_taken_by_the_relay(shell: Shell, url: str) -> None:
    sent = shell.run("send", "--relay", url, "bob", "hello", "there", "--json")

    assert sent.code == 0
    assert sent.object.items() >= {"status": "stored", "to": BOB.peer_id, "type": "publish"}.items()
    assert payloads_for_bob(url, 1) == [{"text": "hello there"}]


def test_the_relay_may_come_from_the_environment_or_the_config(
    shell: Shell, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell.run("init")
    monkeypatch.setenv("AGORA_RELAY_URL", url)

    assert shell.run("send", "bob", "hello").out == f"stored for bob@{BOB.peer_id[-8:]}\n"


@pytest.mark.parametrize(
    ("arguments", "given", "payload"),
    [
        (["-"], "two\nlines\n", {"text": "two\nlines"}),
        (["--payload", '{"a":[1,null,"é"]}'], None, {"a": [1, None, "é"]}),
        (["--payload", "-"], "[1.5]\n", [1.5]),
        (["ask @bob"], None, {"text": f"ask @{BOB.peer_id}"}),
        (["--", "-5 degrees"], None, {"text": "-5 degrees"}),
        ([""], None, {"text": ""}),
    ],
)
def test_text_and_json_come_from_arguments_or_standard_input(
    shell: Shell, url: str, arguments: list[str], given: str | None, payload: Json
) -> None:
    sent = shell.run("send", "--relay", url, "bob", *arguments, given=given)

    assert sent.code == 0, sent.err
    assert payloads_for_bob(url, 1) == [payload]


@pytest.mark.parametrize(
    ("arguments", "given"),
    [
        (["bob"], None),
        (["bob", "hello", "--payload", "1"], None),
        (["bob", "--payload", "{"], None),
        (["bob", "--payload", "NaN"], None),
        (["bob", "-"], b"\xff"),
        (["*", "hello", "--in-reply-to", "ab" * 32], None),
        (["*", "hello", "--confirm"], None),
        (["bob", "hello", "--in-reply-to", "ab"], None),
        (["bob", "hello", "--in-reply-to", "AB" * 32], None),
        (["bob", "hello", "--type", ""], None),
        (["bob", "hello", "--type", "a\nb"], None),
        (["bob", "hello", "--timeout", "nan"], None),
        (["bob", "hello", "--timeout", "inf"], None),
        (["bob", "hello", "--timeout", "0"], None),
        (["bob", "hello", "--relay", "ftp://127.0.0.1"], None),
    ],
)
def test_what_cannot_be_sent_is_a_usage_error(
    shell: Shell, arguments: list[str], given: bytes | None
) -> None:
    refused = shell.run("send", *arguments, given=given)

    assert (refused.code, refused.out) == (2, "")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ("{", "Invalid value for '--payload': not JSON: Expecting"),
        ('{"a":1,"a":2}', "two members are called 'a'"),
        ("[9007199254740993]", "9007199254740993 would not arrive as it is"),
        ("9" * 5000, "would not arrive as it is"),
        ("-1e999", "-1e999 would not arrive as it is"),
        ('{"a":NaN}', "NaN is no JSON number"),
    ],
)
def test_a_payload_that_would_arrive_as_another_is_refused(
    shell: Shell, payload: str, why: str
) -> None:
    refused = shell.run("send", "bob", "--payload", payload)

    assert (refused.code, why in " ".join(refused.err.split())) == (2, True), refused.err


@posix_only
def test_a_closed_standard_input_is_said(shell: Shell) -> None:
    refused = shell.call_closed("send", "bob", "-", "--json")

    assert (refused.code, refused.err) == (2, "agora: standard input is closed\n")
    assert refused.object["code"] == "invalid_input"


def test_a_contact_may_be_meant_with_an_at_sign(shell: Shell, url: str) -> None:
    assert shell.run("send", "--relay", url, "@bob", "hello").code == 0
    assert payloads_for_bob(url, 1) == [{"text": "hello"}]


def test_what_one_writes_to_oneself_waits_for_whoever_listens(shell: Shell, url: str) -> None:
    sent = shell.run("send", "--relay", url, ALICE.peer_id, "hello", "--json")
    listened = shell.run("listen", "--relay", url, "--count", "1", "--json", "--no-presence")

    assert (sent.code, sent.err, sent.object["status"]) == (0, "", "stored")
    assert listened.last["payload"] == {"text": "hello"}


def test_who_writes_to_itself_in_the_reference_dialect_is_warned(shell: Shell) -> None:
    with reference_relay() as url:
        sent = shell.run("send", "--relay", url, ALICE.peer_id, "hello")

    assert (sent.code, sent.err.startswith("that is your own id")) == (0, True)


def test_everyone_who_is_online_hears_a_broadcast(shell: Shell, url: str) -> None:
    with sync.Client(url, BOB) as bob:
        sent = shell.run("send", "--relay", url, "*", "hello", "--json")
        heard = next(bob)

    assert (sent.code, sent.object["to"]) == (0, "*")
    assert (heard.payload, heard.to) == ({"text": "hello"}, ("*",))


@pytest.mark.parametrize(
    ("listeners", "said"),
    [
        (0, "sent to nobody: no one else is online\n"),
        (1, "sent to 1 session\n"),
        (2, "sent to 2 sessions\n"),
    ],
)
def test_a_broadcast_says_how_many_it_went_to(
    shell: Shell, url: str, listeners: int, said: str
) -> None:
    with ExitStack() as stack:
        for _ in range(listeners):
            stack.enter_context(sync.Client(url, KeyPair.generate()))
        sent = shell.run("send", "--relay", url, "*", "hello")

    assert (sent.code, sent.out) == (0, said)


def test_an_answer_names_what_it_answers(shell: Shell, url: str) -> None:
    shell.run(
        "send", "--relay", url, "bob", "yes", "--in-reply-to", "ab" * 32, "--type", "response"
    )

    with sync.Client(url, BOB) as bob:
        heard = next(bob)
    assert (heard.in_reply_to, heard.type) == ("ab" * 32, "response")


def test_a_peer_that_is_not_there_fails_with_the_relays_code(
    shell: Shell, agora_relay: RelayInThread
) -> None:
    arguments = ["send", "--relay", agora_relay.url, "bob", "hello", "--no-outbox"]

    failed = shell.run(*arguments, "--json")

    assert (failed.code, failed.object["code"]) == (8, "unknown_recipient")
    assert failed.err.startswith("agora: bob is not there, and has no mailbox at the relay: try")


async def test_waiting_ends_when_the_peer_comes(shell: Shell, agora_relay: RelayInThread) -> None:
    arguments = ["--relay", agora_relay.url, "bob", "hello", "--wait"]
    with shell.start("send", *arguments) as sending:
        await eventually(lambda: agora_relay.relay.counts.get("refused", 0) > 0)
        with sync.Client(agora_relay.url, BOB) as bob:
            message = next(bob)
            message.ack()
            out, err = sending.communicate(timeout=DEADLINE)

    assert (sending.returncode, message.text) == (0, "hello")
    assert err.startswith("bob is not there")
    assert err.endswith("; waiting, Ctrl-C leaves it in the outbox\n")
    assert out.endswith(f" bob@{BOB.peer_id[-8:]}\n")


@posix_only
@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_waiting_with_a_code_of_its_own(
    shell: Shell, agora_relay: RelayInThread, number: signal.Signals
) -> None:
    arguments = ["--relay", agora_relay.url, "bob", "hello", "--wait", "--json"]
    with shell.start("send", *arguments) as sending:
        await eventually(lambda: agora_relay.relay.counts.get("refused", 0) > 0)
        sending.send_signal(number)
        out, err = sending.communicate(timeout=DEADLINE)

    queued, failed = map(json.loads, out.splitlines())
    assert (sending.returncode, failed["code"]) == (130, "interrupted")
    assert queued["status"] == "queued"
    assert err.splitlines()[-1] == "agora: interrupted; the relay had not taken it"


async def test_waiting_ends_when_the_relay_comes(shell: Shell) -> None:
    with relay_in_thread(storage_peers=(BOB.peer_id,), identity=KeyPair.generate()) as relay:
        relay.stop()
        with shell.start("send", "--relay", relay.url, "bob", "hello", "--wait") as sending:
            assert sending.stderr is not None
            told = sending.stderr.readline()
            relay.start()
            sending.wait(DEADLINE)

    assert sending.returncode == 0
    assert told.endswith("; waiting, Ctrl-C leaves it in the outbox\n")


def test_waiting_in_vain_fails_with_the_last_reason(
    shell: Shell, agora_relay: RelayInThread
) -> None:
    arguments = ["--relay", agora_relay.url, "bob", "hello", "--wait", "--timeout", "0.2", "--json"]

    failed = shell.run("send", *arguments)

    assert (failed.code, failed.last["code"]) == (8, "unknown_recipient")


def test_a_full_mailbox_fails_with_its_code(shell: Shell) -> None:
    with relay_in_thread(storage_peers=(BOB.peer_id,), mailbox_max_messages=1) as relay:
        codes = [shell.run("send", "--relay", relay.url, "bob", "x").code for _ in range(2)]
        failed = shell.run("send", "--relay", relay.url, "bob", "x", "--json")

    assert codes == [0, 8]
    assert failed.last["code"] == "mailbox_full"


def test_an_unknown_peer_fails_before_anything_is_sent(shell: Shell, url: str) -> None:
    failed = shell.run("send", "--relay", url, "carol", "hello", "--json")

    assert (failed.code, failed.object["code"]) == (4, "unknown_peer")


def test_no_relay_fails_at_once(shell: Shell) -> None:
    with relay_in_thread() as relay:
        url = relay.url

    failed = shell.run("send", "--relay", url, "bob", "hello", "--json")

    assert (failed.code, failed.last["code"]) == (6, "not_connected")
    assert "agora relay starts one" in failed.err


def test_a_relay_that_speaks_no_tls_is_guessed(shell: Shell, url: str) -> None:
    failed = shell.run("send", "--relay", url.replace("ws:", "wss:"), "bob", "hello")

    assert failed.code == 6
    assert "it may not speak TLS: try ws://" in failed.err


def test_a_message_too_large_is_refused_before_it_is_sent(shell: Shell, url: str) -> None:
    failed = shell.run("send", "--relay", url, "bob", "-", given="x" * 300_000)

    assert failed.code == 2
    assert "exceeds max_frame_bytes of 262144" in failed.err


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (None, 7),
        ('{"type":"error","code":"sender_mismatch","message":"no\\u001b[2J"}', 5),
        ("close 1001", 7),
        ("close 4501", 5),
    ],
)
def test_a_relay_that_does_not_take_it_is_told_apart(
    shell: Shell, answer: str | None, code: int
) -> None:
    with reference_relay(answer) as url:
        failed = shell.run("send", "--relay", url, "bob", "hello", "--timeout", "0.5", "--json")

    assert (failed.code, failed.last["status"]) == (code, "failed")
    assert "\x1b" not in failed.err + failed.out


# Listening


def test_a_message_is_heard_as_json_with_the_members_of_its_envelope(
    shell: Shell, url: str
) -> None:
    with sync.Client(url, ALICE, name="alice") as alice:
        receipt = alice.send(BOB.peer_id, {"n": 1.5, "s": "é\u202e\ud83d"}, type="request")

    listened = shell.run("--as", "bob", "listen", "--relay", url, "--count", "1", "--json")
    [message] = [each for each in listened.objects if each["event"] == "message"]

    assert listened.code == 0
    assert listened.out.isascii()
    assert message.pop("timestamp") > 0
    assert message == {
        "event": "message",
        "id": receipt.id,
        "type": "request",
        "from": ALICE.peer_id,
        "claimedName": "alice",
        "to": [BOB.peer_id],
        "payload": {"n": 1.5, "s": "é\u202e\ud83d"},
    }


def test_people_read_one_message_a_line_and_no_line_can_be_forged(shell: Shell, url: str) -> None:
    with sync.Client(url, ALICE, name="alice\n") as alice:
        alice.send(BOB.peer_id, {"text": "hi\x1b[2J\r12:00:00 + bob online\nbye"}, type="a\nb")

    listened = shell.run("--as", "bob", "listen", "--relay", url, "--count", "1")

    first, *rest = listened.out.splitlines()
    assert first[8:] == f" ~alice{ALICE_SHORT} a b: hi[2J"
    assert rest == ["    12:00:00 + bob online", "    bye"]


def test_people_see_all_of_a_payload_and_the_id_when_they_ask(shell: Shell, url: str) -> None:
    with sync.Client(url, ALICE) as alice:
        receipt = alice.send(BOB.peer_id, {"text": "look", "url": "x\u202e", "n": [1]})

    listened = shell.run("--as", "bob", "listen", "--relay", url, "--count", "1", "--ids")

    assert listened.out[9:] == f'{ALICE_SHORT} {receipt.id}: look {{"n":[1],"url":"x"}}\n'


def test_a_contact_is_called_as_we_call_it_also_inside_the_text(shell: Shell, url: str) -> None:
    with relay_in_thread(storage_peers=(ALICE.peer_id,)) as relay:
        with sync.Client(relay.url, BOB, name="somebody else") as bob:
            bob.send(ALICE.peer_id, {"text": f"it is me, @{BOB.peer_id}"})
        listened = shell.run("listen", "--relay", relay.url, "--count", "1")

    bob_short = f"bob@{BOB.peer_id[-8:]}"
    assert listened.out[8:] == f" {bob_short}: it is me, @{bob_short}\n"


def test_only_the_types_asked_for_are_shown_and_counted(shell: Shell, url: str) -> None:
    with sync.Client(url, ALICE) as alice:
        for kind in ("publish", "request", "announce"):
            alice.send(BOB.peer_id, kind, type=kind)

    wanted = ["--type", "request", "--type", "announce", "--count", "2"]
    listened = shell.run("--as", "bob", "listen", "--relay", url, *wanted, "--json")

    heard = [each["payload"] for each in listened.objects if each["event"] == "message"]
    assert heard == ["request", "announce"]


def test_too_few_messages_in_time_have_an_exit_code(shell: Shell, url: str) -> None:
    in_vain = shell.run("listen", "--relay", url, "--count", "1", "--timeout", "0.1")
    without_count = shell.run("listen", "--relay", url, "--timeout", "0.1")

    assert (in_vain.code, without_count.code) == (7, 0)
    assert in_vain.err.endswith("agora: 0 of 1 message came within 0.1 s\n")


def test_presence_and_the_state_of_the_connection_are_told(
    shell: Shell, agora_relay: RelayInThread
) -> None:
    with shell.start("listen", "--relay", agora_relay.url, "--json") as listening:
        connected = next_object(listening)
        with sync.Client(agora_relay.url, BOB, name="bob"):
            online = next_object(listening)
        offline = next_object(listening)

    bob = {"publicKey": BOB.peer_id, "name": "bob", "claimedName": "bob"}
    assert connected == {"event": "connected"}
    assert online == {"event": "peer_online"} | bob
    assert offline == {"event": "peer_offline"} | bob


def test_presence_is_not_told_to_who_does_not_want_it(
    shell: Shell, agora_relay: RelayInThread
) -> None:
    arguments = ["--relay", agora_relay.url, "--json", "--no-presence", "--count", "1"]
    with shell.start("listen", *arguments) as listening:
        next_object(listening)
        with sync.Client(agora_relay.url, BOB) as bob:
            bob.send(ALICE.peer_id, "hello")
        heard = next_object(listening)

    assert heard["event"] == "message"


# Asking


def test_a_request_prints_its_answer(shell: Shell, agora_relay: RelayInThread) -> None:
    arguments = ["request", "--relay", agora_relay.url, "bob"]
    with sync.Client(agora_relay.url, BOB) as bob, ThreadPoolExecutor(1) as pool:
        answering = pool.submit(answer_with, bob, [{"text": "42"}, {"n": 42}])
        for_people = shell.run(*arguments, "6 * 7")
        for_programs = shell.run(*arguments, "--payload", "[6,7]", "--json")
        asked = answering.result(DEADLINE)

    assert asked == [("request", {"text": "6 * 7"}), ("request", [6, 7])]
    assert (for_people.code, for_people.out) == (0, "42\n")
    assert (for_programs.object["payload"], for_programs.object["type"]) == ({"n": 42}, "response")


def answer_with(bob: sync.Client, answers: list[Json]) -> list[tuple[str, Json]]:
    asked = []
    for answer in answers:
        message = next(bob)
        asked.append((message.type, message.payload))
        message.reply(answer)
    return asked


def test_a_request_that_nobody_answers_says_why(shell: Shell, url: str) -> None:
    with relay_in_thread() as relay:
        away = shell.run("request", "--relay", relay.url, "bob", "?", "--timeout", "0.3", "--json")
    silent = shell.run("request", "--relay", url, "bob", "?", "--timeout", "0.3", "--json")

    assert (away.code, away.object["code"]) == (8, "unknown_recipient")
    assert (silent.code, silent.object["code"]) == (7, "no_answer")


def test_a_forged_message_is_an_error_and_listening_goes_on(shell: Shell) -> None:
    with (
        relay_in_thread(storage_peers=(BOB.peer_id,), envelopes="open") as relay,
        connect(relay.url, proxy=None) as forger,
    ):
        good = seal(ALICE, type="publish", payload="genuine", to=BOB.peer_id)
        forged = good.to_dict() | {"payload": "forged"}
        for frame in (
            {"type": "register", "publicKey": ALICE.peer_id},
            {"type": "message", "to": BOB.peer_id, "envelope": forged},
            {"type": "message", "to": BOB.peer_id, "envelope": good.to_dict()},
            {"type": "ping"},
        ):
            forger.send(json.dumps(frame))
        while json.loads(forger.recv(DEADLINE))["type"] != "pong":
            pass
        arguments = ["--as", "bob", "listen", "--relay", relay.url, "--count", "1"]
        listened = shell.run(*arguments, "--json")

    error, message = (each for each in listened.objects if each["event"] in ("error", "message"))
    assert (error["code"], error["reason"]) == ("invalid_envelope", "id_mismatch")
    assert message["payload"] == "genuine"


def test_a_lost_connection_comes_back(shell: Shell) -> None:
    with (
        relay_in_thread(identity=KeyPair.generate()) as relay,
        shell.start("listen", "--relay", relay.url, "--json") as listening,
    ):
        states = [next_object(listening)]
        relay.restart()
        states += [next_object(listening) for _ in range(2)]

    assert [state["event"] for state in states] == ["connected", "connecting", "connected"]
    assert states[1]["code"] == "no_answer"


@posix_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_listening_with_a_goodbye(
    shell: Shell, agora_relay: RelayInThread, number: signal.Signals
) -> None:
    with shell.start("listen", "--relay", agora_relay.url, "--json") as listening:
        next_object(listening)
        listening.send_signal(number)
        out, err = listening.communicate(timeout=DEADLINE)

    assert (listening.returncode, out) == (0, "")
    assert err == f"connecting to {agora_relay.url}\n"


@posix_only
def test_a_reader_that_goes_away_ends_it_quietly(shell: Shell, url: str) -> None:
    with shell.start("listen", "--relay", url, "--json") as listening:
        next_object(listening)
        assert listening.stdout is not None
        listening.stdout.close()
        shell.run("--as", "bob", "send", "--relay", url, ALICE.peer_id, "anyone?")
        assert listening.stderr is not None
        err = listening.stderr.read()

    assert listening.wait(DEADLINE) == 141
    assert err == f"connecting to {url}\n"


@posix_only
def test_colour_is_for_terminals_and_not_with_no_color(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(stdout: int) -> bytes:
        with shell.start("peers", "--offline", stdout=stdout) as listing:
            listing.wait(DEADLINE)
        return os.read(terminal, 10_000)

    terminal, screen = os.openpty()
    coloured = said(screen)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = said(screen)

    assert b"\x1b[" in coloured
    assert plain == f"?       bob@{BOB.peer_id[-8:]}\r\n".encode()
    assert "\x1b" not in shell.call("peers", "--offline").out


def next_object(process: Any) -> dict[str, Any]:
    """Read the next JSON object that a process writes."""
    members: dict[str, Any] = json.loads(process.stdout.readline())
    return members
