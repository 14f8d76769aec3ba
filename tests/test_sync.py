"""The synchronous client: the asynchronous one, waited for, and nothing left behind."""

from __future__ import annotations

import inspect
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from websockets.sync.server import ServerConnection, serve

import agora
from agora.client import ConnectionState, PresenceChanged, StateChanged, Status, Trouble
from agora.errors import (
    ClosedError,
    NoAnswerError,
    NotConnectedError,
    PeerReferenceError,
    RefusedError,
)
from agora.keys import KeyPair
from agora.sync import Client, Message, Receipt
from agora.testing import RelayInThread

A = KeyPair.from_seed(bytes(range(32)))
B = KeyPair.from_seed(bytes(range(32, 64)))

DEADLINE = 30.0
TAKEN = (Status.DELIVERED, Status.STORED)


def public_names(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[None]:
    """Run *work* beside the block, and pass on what it raised."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield
        future.result(DEADLINE)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    left = [thread.name for thread in threading.enumerate() if "agora client" in thread.name]
    assert left == []


@pytest.fixture
def alice(agora_relay: RelayInThread) -> Iterator[Client]:
    with Client(agora_relay.url, A, name="alice") as client:
        yield client


@pytest.fixture
def bob(agora_relay: RelayInThread) -> Iterator[Client]:
    with Client(agora_relay.url, B, name="bob") as client:
        yield client


@pytest.fixture
def refusing_url() -> Iterator[str]:
    """A relay that registers, and ends it for good at the first message."""

    def refuse(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(f'{{"type":"registered","publicKey":"{A.peer_id}","peers":[]}}')
        connection.recv()
        connection.close(4501, "enough")

    with serve(refuse, "127.0.0.1", 0) as server, in_thread(server.serve_forever):
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()


# Two clients, one interface


def test_it_has_the_names_of_the_asynchronous_client() -> None:
    attributes = vars(agora.Client("ws://localhost", A))
    public_attributes = {name for name in attributes if not name.startswith("_")}

    assert public_names(Client) == public_names(agora.Client) | public_attributes


def test_its_messages_have_the_names_of_the_asynchronous_ones() -> None:
    assert public_names(Message) == public_names(agora.Message)


def test_its_receipts_have_the_names_that_are_for_applications() -> None:
    for_the_client = {
        "update",
        "abandon",
        "note_kept",
        "note_reached",
        "first_word",
        "reached",
        "raise_if_refused",
    }

    assert public_names(Receipt) == public_names(agora.Receipt) - for_the_client


@pytest.mark.parametrize(
    ("ours", "original"),
    [(Client, agora.Client), (Message, agora.Message), (Receipt, agora.Receipt)],
)
def test_its_methods_take_the_same_arguments_and_say_the_same(ours: type, original: type) -> None:
    for name in public_names(ours) & public_names(original):
        twin, method = getattr(ours, name), getattr(original, name)
        assert bool(inspect.getdoc(twin)) is bool(inspect.getdoc(method)), name
        if inspect.isfunction(method):
            assert arguments(twin) == arguments(method), name
            assert not inspect.iscoroutinefunction(twin), name


def test_it_is_made_with_the_same_arguments() -> None:
    assert inspect.signature(Client) == inspect.signature(agora.Client)


def arguments(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(function).parameters.values()
    return [(each.name, each.kind, each.default) for each in parameters]


def test_it_is_there_when_agora_is_imported() -> None:
    script = "import agora; print(agora.sync.Client.__name__)"

    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert said.stdout == "Client\n", said.stderr


# Talking


def take(client: Client) -> Message:
    """Return the next message, and be done with it."""
    message = next(client)
    message.ack()
    return message


def test_a_message_comes_and_is_answered(alice: Client, bob: Client) -> None:
    receipt = alice.post(B.peer_id, {"text": "hello"})
    heard = next(bob)
    heard.ack()
    bob.post(A.peer_id, {"text": "hi"}, in_reply_to=heard.id)
    answer = next(alice)

    assert (heard.sender, heard.text, heard.name) == (A.peer_id, "hello", "alice")
    assert receipt.settled(DEADLINE) in TAKEN
    assert (answer.text, answer.in_reply_to) == ("hi", heard.id)


def test_a_request_returns_its_reply(alice: Client, bob: Client) -> None:
    with in_thread(lambda: next(bob).reply(42)):
        reply = alice.request(B.peer_id, "question", timeout=DEADLINE)

    assert (reply.payload, reply.type) == (42, "response")


def test_a_broadcast_and_a_group_message_come(alice: Client, bob: Client) -> None:
    def read() -> list[object]:
        return [take(bob).payload, take(bob).payload, take(alice).payload]

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read)
        alice.broadcast("all")
        receipts = alice.send_group([B.peer_id, A.peer_id], "some")

    assert reading.result() == ["all", "some", "some"]
    assert {receipt.status for receipt in receipts} <= set(TAKEN)


def test_a_message_waits_until_its_recipient_comes(
    agora_relay: RelayInThread, alice: Client
) -> None:
    receipt = alice.send(B.peer_id, "early")
    waiting = (receipt.status, receipt.why, alice.outbox)
    with Client(agora_relay.url, B) as bob:
        heard = take(bob)

    assert waiting == (Status.QUEUED, "unknown_recipient", (receipt,))
    assert heard.payload == "early"
    assert receipt.settled(DEADLINE) in TAKEN
    assert alice.outbox == ()


def test_it_knows_where_it_is_and_who_else(alice: Client, bob: Client) -> None:
    assert (alice.state, alice.is_connected, alice.error) == (ConnectionState.CONNECTED, True, None)
    assert (bob.peer_id, bob.name, bob.identity) == (B.peer_id, "bob", B)
    assert A.peer_id in bob.peers
    assert bob.resolve(f"@{A.peer_id[-8:]}") == A.peer_id


def test_events_tell_who_comes_and_goes(agora_relay: RelayInThread, alice: Client) -> None:
    heard: list[object] = []
    come, gone = threading.Event(), threading.Event()

    def listen(event: object) -> None:
        heard.append(event)
        come.set()
        if heard[-1:] == [PresenceChanged(B.peer_id, is_online=False, name="bob")]:
            gone.set()

    stop = alice.listen(listen)
    with Client(agora_relay.url, B, name="bob"):
        assert come.wait(DEADLINE)

    assert gone.wait(DEADLINE)
    assert heard == [PresenceChanged(B.peer_id, is_online, "bob") for is_online in (True, False)]
    stop()


# Errors


def test_no_relay_raises_what_the_asynchronous_client_raises() -> None:
    client = Client("ws://127.0.0.1:1", A, reconnect=False)

    with pytest.raises(NotConnectedError):
        client.connect()


def test_errors_of_a_call_come_out_of_it(alice: Client) -> None:
    with pytest.raises(PeerReferenceError):
        alice.send("nobody", "hello")
    with pytest.raises(NoAnswerError):
        alice.request(B.peer_id, "hello", timeout=0.01)


def test_a_final_refusal_ends_the_iteration_with_its_error(refusing_url: str) -> None:
    with Client(refusing_url, A, rate_limit=None) as client:
        with pytest.raises(RefusedError, match="enough"):
            for _ in sending(client):
                pass
        assert isinstance(client.error, RefusedError)


def test_a_final_refusal_ends_run_with_its_error(refusing_url: str) -> None:
    with Client(refusing_url, A, rate_limit=None) as client:
        client.send(B.peer_id, "hello")
        with pytest.raises(RefusedError, match="enough"):
            client.run()


def sending(client: Client) -> Iterator[Message]:
    client.send(B.peer_id, "hello")
    yield from client


def test_a_listener_that_would_wait_for_itself_is_told(
    caplog: pytest.LogCaptureFixture, agora_relay: RelayInThread, alice: Client
) -> None:
    come = threading.Event()

    def listen(event: object) -> None:
        come.set()
        alice.send(B.peer_id, "hello")

    alice.listen(listen)
    with Client(agora_relay.url, B) as bob:
        assert come.wait(DEADLINE)
        alice.post(B.peer_id, "still here")

        assert next(bob).payload == "still here"
    assert "would wait for itself" in caplog.text


# Handlers


def test_handlers_run_in_the_thread_that_runs_them(alice: Client, bob: Client) -> None:
    threads = []

    @bob.on("request")
    def answer(message: Message) -> None:
        threads.append(threading.current_thread())
        message.reply(message.payload)

    with in_thread(lambda: (alice.request(B.peer_id, 1, timeout=DEADLINE), bob.close())):
        bob.run()

    assert threads == [threading.current_thread()]


def test_a_handler_may_close_its_client(alice: Client, bob: Client) -> None:
    @bob.on()
    def stop(message: Message) -> None:
        bob.close()

    alice.post(B.peer_id, "stop")
    bob.run()

    assert bob.state is ConnectionState.CLOSED


def test_what_a_handler_raises_surfaces_and_the_next_message_comes(
    alice: Client, bob: Client
) -> None:
    troubles: list[object] = []
    bob.listen(lambda event: troubles.append(event) if isinstance(event, Trouble) else None)

    @bob.on("bad")
    def fail(message: Message) -> None:
        next(iter(()))  # StopIteration: the one exception that no future holds

    @bob.on("good")
    def stop(message: Message) -> None:
        bob.close()

    alice.post(B.peer_id, 1, type="bad")
    alice.post(B.peer_id, 2, type="good")
    bob.run()

    assert [type(trouble) for trouble in troubles] == [Trouble]


def test_several_handlers_work_at_a_time_if_asked(alice: Client, bob: Client) -> None:
    together = threading.Barrier(3, timeout=DEADLINE)

    @bob.on()
    def meet(message: Message) -> None:
        together.wait()
        bob.close()

    for number in range(3):
        alice.post(B.peer_id, number)
    bob.run(concurrency=3)

    assert not together.broken


def test_it_can_run_again_after_an_interruption(alice: Client, bob: Client) -> None:
    @bob.on("interrupt")
    def interrupt(message: Message) -> None:
        raise KeyboardInterrupt

    @bob.on("stop")
    def stop(message: Message) -> None:
        bob.close()

    alice.post(B.peer_id, 1, type="interrupt")
    with pytest.raises(KeyboardInterrupt):
        bob.run()
    alice.post(B.peer_id, 2, type="stop")
    bob.run()

    assert bob.state is ConnectionState.CLOSED


# The end


def test_closing_from_another_thread_ends_every_iterator(alice: Client) -> None:
    with ThreadPoolExecutor(3) as pool:
        messages = [pool.submit(list, alice) for _ in range(2)]
        events = pool.submit(list, alice.events())
        alice.close()

    assert [reader.result() for reader in messages] == [[], []]
    assert events.result() == [StateChanged(ConnectionState.CLOSED)]


def test_what_has_come_can_be_read_after_closing(alice: Client, bob: Client) -> None:
    for number in range(3):
        alice.post(B.peer_id, number)
    bob.broadcast("thanks")  # a relay answers in order: all three are here behind its answer
    bob.close()

    assert [message.payload for message in bob] == [0, 1, 2]


def test_a_closed_client_says_so(alice: Client) -> None:
    receipt = alice.send(B.peer_id, "early")
    alice.close()
    alice.close()

    assert receipt.settled() is Status.QUEUED
    assert list(alice) == []
    assert list(alice.events()) == [StateChanged(ConnectionState.CLOSED)]
    with pytest.raises(ClosedError):
        alice.send(B.peer_id, "late")
    with pytest.raises(ClosedError):
        alice.connect()


def test_a_client_that_was_never_used_has_no_thread() -> None:
    client = Client("ws://127.0.0.1:1", A)

    assert client.state is ConnectionState.CONNECTING


async def test_it_works_where_a_loop_is_running_already(agora_relay: RelayInThread) -> None:
    with Client(agora_relay.url, A) as alice, Client(agora_relay.url, B) as bob:
        alice.post(B.peer_id, "from a notebook")

        assert next(bob).payload == "from a notebook"


def test_it_works_in_a_thread_without_a_loop(agora_relay: RelayInThread) -> None:
    def talk() -> object:
        with Client(agora_relay.url, A) as alice, Client(agora_relay.url, B) as bob:
            alice.post(B.peer_id, "from a thread")
            return next(bob).payload

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(talk).result(DEADLINE) == "from a thread"


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Let processes be interrupted also where the tests themselves run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("wait", ["next(me)", "me.run()", "me.request(me.peer_id, 1)"])
def test_ctrl_c_interrupts_whatever_waits(agora_relay: RelayInThread, wait: str) -> None:
    script = (
        "import agora, sys, threading\n"
        "try:\n"
        f"    with agora.sync.Client({agora_relay.url!r}, agora.Identity.generate()) as me:\n"
        "        print('ready', flush=True)\n"
        f"        {wait}\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', threading.active_count())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        try:
            said, _ = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()

    assert said == b"interrupted 1\n"
