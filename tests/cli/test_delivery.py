"""What the command line keeps, whom it believes, what it takes; and that it says so truly."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agora import sync
from agora.cli.recent_peers import default_recent_peers_path
from agora.client.store import ClientStore, default_store_path
from agora.keys import KeyPair
from agora.testing import RelayInThread, relay_in_thread
from tests.cli.conftest import ALICE, BOB, DEADLINE, Ran, Shell
from tests.support import eventually

BOB_SHOWN = f"bob@{BOB.peer_id[-8:]}"
KEPT = f"kept in the outbox for {BOB_SHOWN}; goes out with the next agora send or agora listen\n"


@pytest.fixture
def relay() -> Iterator[RelayInThread]:
    """A relay with a mailbox for bob, which is the same one after a restart."""
    with relay_in_thread(storage_peers=(BOB.peer_id,), identity=KeyPair.generate()) as relay:
        yield relay


@pytest.fixture
def impatient_relay() -> Iterator[RelayInThread]:
    """A relay that puts into the mailbox at once what its recipient does not ack at once."""
    with relay_in_thread(ack_timeout=0.1, identity=KeyPair.generate()) as relay:
        yield relay


@contextmanager
def outbox_in_use(shell: Shell) -> Iterator[ClientStore]:
    store = ClientStore(default_store_path(shell.config), peer_id=ALICE.peer_id)
    try:
        yield store
    finally:
        store.close()


def texts_for_bob(url: str, count: int) -> list[str]:
    with sync.Client(url, BOB) as bob:
        return [next(bob).text for _ in range(count)]


def events(shell: Shell, kind: str, *arguments: str) -> list[dict[str, Any]]:
    listened = shell.run("listen", "--json", *arguments)
    return [each for each in listened.objects if each["event"] == kind]


# The outbox


def test_what_could_not_go_goes_out_with_the_next_send_and_before_it(
    shell: Shell, relay: RelayInThread
) -> None:
    relay.stop()
    kept = shell.run("send", "--relay", relay.url, "bob", "first")
    relay.start()
    sent = shell.run("send", "--relay", relay.url, "bob", "second")

    assert (kept.code, kept.out) == (6, KEPT)
    assert (sent.code, sent.out) == (0, f"stored for {BOB_SHOWN}\n")
    assert sent.err == f"from the outbox: stored for {BOB_SHOWN}: first\n"
    assert texts_for_bob(relay.url, 2) == ["first", "second"]


def test_what_is_for_a_full_id_is_kept_as_well(
    shell: Shell, impatient_relay: RelayInThread
) -> None:
    stranger, relay = KeyPair.generate(), impatient_relay
    relay.stop()
    failed = shell.run("send", "--relay", relay.url, stranger.peer_id, "later", "--json")
    relay.start()

    assert (failed.code, failed.objects[0]["status"]) == (6, "queued")
    with sync.Client(relay.url, stranger) as late:
        shell.run("send", "--relay", relay.url, "bob", "now")
        assert next(late).text == "later"


def test_who_is_meant_by_a_short_reference_only_a_relay_may_know_and_it_is_not_kept(
    shell: Shell, relay: RelayInThread
) -> None:
    relay.stop()
    failed = shell.run("send", "--relay", relay.url, "@abababab", "never")
    for_programs = shell.run("send", "--relay", relay.url, "@abababab", "never", "--json")

    why = "only a relay can tell who @abababab is: with a full id it would be kept"
    assert (failed.code, failed.out) == (6, "")
    assert failed.err.startswith(f"not kept: {why}\n")
    said = {"status": "not_kept", "type": "publish", "message": why}
    assert for_programs.objects[0] == said


def test_waiting_to_learn_who_is_meant_promises_no_outbox(
    shell: Shell, relay: RelayInThread
) -> None:
    relay.stop()
    arguments = ["@abababab", "never", "--wait", "--timeout", "0.5"]
    failed = shell.run("send", "--relay", relay.url, *arguments)

    assert (failed.code, failed.out) == (6, "")
    assert failed.err.splitlines()[0].endswith("; waiting, Ctrl-C gives up")


def test_what_waits_goes_out_once(shell: Shell, relay: RelayInThread) -> None:
    relay.stop()
    shell.run("send", "--relay", relay.url, "bob", "first")
    relay.start()
    for text in ("second", "third"):
        shell.run("send", "--relay", relay.url, "bob", text)

    assert texts_for_bob(relay.url, 3) == ["first", "second", "third"]


def test_what_waits_goes_out_with_listen_and_it_says_so(shell: Shell, relay: RelayInThread) -> None:
    relay.stop()
    kept = shell.run("send", "--relay", relay.url, "bob", "later", "--json")
    relay.start()
    with shell.start("listen", "--relay", relay.url, "--json", "--no-presence") as listening:
        heard = [next_object(listening) for _ in range(2)]

    receipt = {"event": "receipt", "status": "stored", "to": BOB.peer_id, "name": "bob"}
    assert heard == [{"event": "connected"}, receipt | {"id": kept.objects[0]["id"]}]
    assert texts_for_bob(relay.url, 1) == ["later"]


async def test_what_waits_outlives_a_kill(shell: Shell, impatient_relay: RelayInThread) -> None:
    stranger, relay = KeyPair.generate(), impatient_relay
    arguments = ["--relay", relay.url, stranger.peer_id, "for later", "--wait"]
    with shell.start("send", *arguments) as sending:
        await eventually(lambda: relay.relay.counts.get("refused", 0) > 0)
        sending.kill()
        sending.wait(DEADLINE)

    with sync.Client(relay.url, stranger) as late:
        shell.call("send", "--relay", relay.url, "bob", "something else")
        assert next(late).text == "for later"


def test_without_an_outbox_nothing_is_kept(shell: Shell, relay: RelayInThread) -> None:
    relay.stop()
    failed = shell.run("send", "--relay", relay.url, "bob", "never", "--no-outbox")
    relay.start()
    shell.run("send", "--relay", relay.url, "bob", "now")

    assert (failed.code, failed.out) == (6, "")
    assert texts_for_bob(relay.url, 1) == ["now"]


def test_another_file_may_be_the_outbox(shell: Shell, relay: RelayInThread) -> None:
    elsewhere = shell.home / "elsewhere.sqlite3"
    relay.stop()
    shell.run("send", "--relay", relay.url, "bob", "kept", "--outbox", str(elsewhere))
    relay.start()

    assert elsewhere.exists()
    assert not default_store_path(shell.config).exists()


def test_what_is_refused_for_good_is_not_kept(shell: Shell, relay: RelayInThread) -> None:
    failed = shell.run("send", "--relay", "ftp://127.0.0.1", "bob", "hello")

    assert (failed.code, failed.out) == (2, "")
    assert not default_store_path(shell.config).exists()


def test_a_broadcast_is_never_kept(shell: Shell, relay: RelayInThread) -> None:
    relay.stop()
    failed = shell.run("send", "--relay", relay.url, "*", "hello")

    assert (failed.code, failed.out) == (6, "")


def test_an_outbox_in_use_is_no_trouble_while_the_relay_takes_it(
    shell: Shell, relay: RelayInThread
) -> None:
    with outbox_in_use(shell):
        sent = shell.run("send", "--relay", relay.url, "bob", "hello")

    assert (sent.code, sent.out, sent.err) == (0, f"stored for {BOB_SHOWN}\n", "")


def test_what_an_outbox_in_use_cannot_keep_is_said_not_to_be_kept(
    shell: Shell, relay: RelayInThread
) -> None:
    relay.stop()
    with outbox_in_use(shell):
        failed = shell.run("send", "--relay", relay.url, "bob", "hello")

    assert (failed.code, failed.out) == (6, "")
    assert failed.err.startswith(f"not kept: {default_store_path(shell.config)} is in use by")


def test_programs_are_told_that_it_is_not_kept(shell: Shell, relay: RelayInThread) -> None:
    relay.stop()
    with outbox_in_use(shell):
        failed = shell.run("send", "--relay", relay.url, "bob", "hello", "--json")

    said = failed.objects[0]
    assert (said["status"], said["to"]) == ("not_kept", BOB.peer_id)
    assert "is in use by another process" in str(said["message"])
    assert failed.last["code"] == "not_connected"


def test_listening_waits_a_while_for_an_outbox_in_use(shell: Shell, relay: RelayInThread) -> None:
    with ExitStack() as stack:
        with outbox_in_use(shell):
            arguments = ["listen", "--relay", relay.url, "--json"]
            listening = stack.enter_context(shell.start(*arguments))
            assert listening.stderr is not None
            listening.stderr.readline()  # it has begun
        assert next_object(listening) == {"event": "connected"}
        busy = shell.run("send", "--relay", relay.url, KeyPair.generate().peer_id, "hello")

    assert busy.err.startswith("not kept: ")


# Receipts and acknowledgements


def test_a_message_that_is_taken_at_once_is_delivered(shell: Shell, relay: RelayInThread) -> None:
    arguments = ["--as", "bob", "listen", "--relay", relay.url, "--json", "--no-presence"]
    with shell.start(*arguments) as listening:
        next_object(listening)
        said = [shell.run("send", "--relay", relay.url, "bob", "hello") for _ in range(2)]

    # The first may have found bob still reading his mailbox.
    assert said[-1].out == f"delivered to {BOB_SHOWN}\n"


def test_a_message_is_confirmed_by_its_recipient(shell: Shell, relay: RelayInThread) -> None:
    with shell.start("--as", "bob", "listen", "--relay", relay.url, "--json") as listening:
        next_object(listening)
        for_programs = shell.run("send", "--relay", relay.url, "bob", "x", "--confirm", "--json")
        for_people = shell.run("send", "--relay", relay.url, "bob", "x", "--confirm")

    taken, processed = for_programs.objects
    assert (for_programs.code, processed) == (0, taken | {"status": "processed"})
    assert for_people.out == f"delivered to {BOB_SHOWN}\nprocessed by {BOB_SHOWN}\n"


def test_a_recipient_that_gives_up_has_an_exit_code(shell: Shell, relay: RelayInThread) -> None:
    with sync.Client(relay.url, BOB) as bob, ThreadPoolExecutor(1) as pool:
        giving_up = pool.submit(lambda: next(bob).give_up())
        failed = shell.run("send", "--relay", relay.url, "bob", "hello", "--confirm", "--json")
        giving_up.result(DEADLINE)

    assert (failed.code, failed.last["code"]) == (5, "failed")


def test_a_confirmation_that_does_not_come_in_time_has_an_exit_code(
    shell: Shell, relay: RelayInThread
) -> None:
    arguments = ["bob", "hello", "--confirm", "--timeout", "0.5", "--json"]

    failed = shell.run("send", "--relay", relay.url, *arguments)

    assert failed.objects[0]["status"] == "stored"
    assert (failed.code, failed.last["code"]) == (7, "no_answer")
    assert failed.err == (
        "agora: no acknowledgement came within 0.5 s; the message itself is stored, "
        "and need not be sent again\n"
    )


def test_a_confirmation_is_waited_for_while_the_relay_is_away(shell: Shell) -> None:
    with (
        relay_in_thread(storage_peers=(BOB.peer_id,), data_dir=shell.home / "relay") as relay,
        shell.start("send", "--relay", relay.url, "bob", "hello", "--confirm") as sending,
    ):
        assert sending.stdout is not None
        stored = sending.stdout.readline()
        relay.restart()
        with sync.Client(relay.url, BOB) as bob:
            next(bob).ack()
            confirmed = sending.stdout.readline()

    assert (stored, confirmed) == (f"stored for {BOB_SHOWN}\n", f"processed by {BOB_SHOWN}\n")


def test_a_confirmation_is_waited_for_also_when_the_relay_goes_with_the_message_under_way(
    shell: Shell,
) -> None:
    with (
        relay_in_thread(storage_peers=(BOB.peer_id,), data_dir=shell.home / "relay") as relay,
        sync.Client(relay.url, BOB) as bob,
        shell.start("send", "--relay", relay.url, "bob", "hello", "--confirm") as sending,
    ):
        message = next(bob)
        relay.restart()
        message.ack()
        out, _ = sending.communicate(timeout=DEADLINE)

    assert (sending.returncode, out.splitlines()[-1]) == (0, f"processed by {BOB_SHOWN}")


def test_without_a_relay_nothing_is_waited_for(shell: Shell, relay: RelayInThread) -> None:
    relay.stop()
    commands = [["send", "--confirm"], ["request"]]

    for command in commands:
        failed = shell.run(*command, "--relay", relay.url, "bob", "hello", "--timeout", "20")
        assert failed.code == 6


def test_a_request_is_answered_also_when_the_relay_was_away_meanwhile(
    shell: Shell, relay: RelayInThread
) -> None:
    with (
        sync.Client(relay.url, BOB) as bob,
        shell.start("request", "--relay", relay.url, "bob", "how much?") as asking,
    ):
        question = next(bob)
        relay.restart()
        question.reply({"text": "a lot"})
        out, err = asking.communicate(timeout=DEADLINE)

    assert (asking.returncode, out, err) == (0, "a lot\n", "")


# A damaged outbox


def keep_for_bob(shell: Shell, relay: RelayInThread) -> Path:
    """Leave a message for bob in the outbox while there is no relay; return the outbox's file."""
    relay.stop()
    shell.run("send", "--relay", relay.url, "bob", "lost")
    relay.start()
    return default_store_path(shell.config)


def test_people_are_told_that_the_outbox_was_damaged_and_what_is_lost_with_it(
    shell: Shell, relay: RelayInThread, caplog: pytest.LogCaptureFixture
) -> None:
    file = keep_for_bob(shell, relay)
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("DROP TABLE seen")

    sent = shell.run("send", "--relay", relay.url, "bob", "hello")

    [aside] = file.parent.glob(f"{file.name}.corrupt-*Z")
    assert (sent.code, sent.out) == (0, f"stored for {BOB_SHOWN}\n")
    assert sent.err == (
        f"! {file} was damaged, and is now {aside}; lost with it: 1 message to be sent, "
        "and the memory of what was received, which may come once more\n"
    )
    fields = {"path": str(file), "now_at": str(aside), "messages": "1"}
    [logged] = [each for each in caplog.records if each.message == "damaged store set aside"]
    assert vars(logged)["fields"].items() >= fields.items()


def test_what_cannot_be_counted_in_a_damaged_outbox_is_told_without_a_number(
    shell: Shell, relay: RelayInThread
) -> None:
    file = keep_for_bob(shell, relay)
    file.write_bytes(b"this is no database, as long as it may be" * 100)

    [told] = events(shell, "error", "--relay", relay.url, "--timeout", "1")

    assert told["code"] == "store_damaged"
    assert str(file) in told["message"]
    assert "lost with it: what was to be sent" in told["message"]


def test_a_message_that_is_damaged_in_the_outbox_is_told(
    shell: Shell, relay: RelayInThread
) -> None:
    file = keep_for_bob(shell, relay)
    with closing(sqlite3.connect(file)) as store, store:
        store.execute("UPDATE outgoing SET envelope = x'00'")

    sent = shell.run("send", "--relay", relay.url, "bob", "hello")

    assert (sent.code, sent.out) == (0, f"stored for {BOB_SHOWN}\n")
    assert sent.err == f"! damaged in {file}, set aside there and not sent: 1 message\n"


# Which relay it is


def test_a_relay_with_another_key_is_refused_until_the_old_one_is_forgotten(shell: Shell) -> None:
    with relay_in_thread() as first:
        shell.run("--as", "bob", "send", "--relay", first.url, ALICE.peer_id, "hello")
    port = urlsplit(first.url).port
    with relay_in_thread(storage_peers=(BOB.peer_id,), port=port):
        refused = [
            shell.run("--as", "bob", command, "--relay", first.url, "--json", *arguments)
            for command, *arguments in (
                ["send", BOB.peer_id, "hello"],
                ["request", BOB.peer_id, "hello"],
                ["listen"],
                ["peers"],
            )
        ]
        shell.run("--as", "bob", "known-relays", "forget", first.url)
        again = shell.run("--as", "bob", "send", "--relay", first.url, BOB.peer_id, "hello")

    assert [(ran.code, ran.last["code"]) for ran in refused] == [(11, "relay_changed")] * 4
    for ran in refused:
        assert f"run agora --profile bob known-relays forget {first.url}" in ran.err
    assert again.code == 0


def listen_while_the_relay_becomes_another(shell: Shell, *options: str) -> tuple[Ran, str]:
    """Have bob listen until he must not; return what he was told, and what he was to be told."""
    with ExitStack() as stack:
        with relay_in_thread() as first:
            arguments = ["--as", "bob", "listen", "--relay", first.url, "--no-presence", *options]
            listening = stack.enter_context(shell.start(*arguments))
            line = listening.stdout if options else listening.stderr
            assert line is not None
            begun = "".join(line.readline() for _ in range(1 if options else 2))
        stack.enter_context(relay_in_thread(port=urlsplit(first.url).port))
        out, err = listening.communicate(timeout=DEADLINE)
    ran = Ran(listening.returncode, begun + out if options else out, err)
    return ran, f"run agora --profile bob known-relays forget {first.url}"


def test_people_who_listen_are_told_once_that_the_relay_is_another(shell: Shell) -> None:
    told, advice = listen_while_the_relay_becomes_another(shell)

    assert (told.code, told.out) == (11, "")
    assert told.err.count("someone may stand between") == told.err.count(advice) == 1


def test_programs_that_listen_are_told_which_profile_knows_the_other_relay(shell: Shell) -> None:
    told, advice = listen_while_the_relay_becomes_another(shell, "--json")

    changed = [each for each in told.objects if each.get("code") == "relay_changed"]
    assert told.last in changed
    assert all(advice in each["message"] for each in changed)


# What is taken


def test_sending_takes_no_mail_and_is_not_announced(shell: Shell, relay: RelayInThread) -> None:
    shell.run("send", "--relay", relay.url, "bob", "hello")
    with sync.Client(relay.url, BOB) as bob:
        bob.send(ALICE.peer_id, "while you were away")
        shell.run("send", "--relay", relay.url, ALICE.peer_id, "do not forget")
        shell.run("peers", "--relay", relay.url)
        assert bob.peers == {}
    heard = events(shell, "message", "--relay", relay.url, "--count", "2")

    payloads = [message["payload"] for message in heard]
    assert payloads == ["while you were away", {"text": "do not forget"}]


def test_what_was_printed_does_not_come_again_and_what_was_not_does(
    shell: Shell, relay: RelayInThread
) -> None:
    with sync.Client(relay.url, ALICE) as alice:
        for number in range(3):
            alice.send(BOB.peer_id, number)
    arguments = ["--as", "bob", "listen", "--relay", relay.url, "--json", "--no-presence"]

    runs = [shell.run(*arguments, "--count", count) for count in ("1", "2")]

    heard = [[each.get("payload") for each in ran.objects if "payload" in each] for ran in runs]
    assert heard == [[0], [1, 2]]


def test_without_an_outbox_too_what_was_printed_does_not_come_again(
    shell: Shell, relay: RelayInThread
) -> None:
    with sync.Client(relay.url, ALICE) as alice:
        for number in range(2):
            alice.send(BOB.peer_id, number)
    arguments = ["--as", "bob", "listen", "--relay", relay.url, "--json", "--no-outbox"]

    runs = [shell.run(*arguments, "--count", "1") for _ in range(2)]

    assert [ran.last["payload"] for ran in runs] == [0, 1]


# Who is heard


def write_to_alice(relay: RelayInThread, sender: KeyPair, text: str) -> str:
    """Have *sender* write to alice, who has a mailbox; return the message's id."""
    with sync.Client(relay.url, sender, name="mallory") as client:
        return client.send(ALICE.peer_id, {"text": text}).id


@pytest.fixture
def proven_alice(shell: Shell, relay: RelayInThread) -> Shell:
    """Alice, who has been at the relay and so has a mailbox there."""
    shell.run("peers", "--relay", relay.url)
    return shell


def test_who_is_no_contact_is_withheld_and_not_read(
    proven_alice: Shell, relay: RelayInThread
) -> None:
    stranger = KeyPair.generate()
    proven_alice.run("policy", "contacts")
    unread = write_to_alice(relay, stranger, "buy this")
    write_to_alice(relay, BOB, "hello")

    listened = proven_alice.run("listen", "--relay", relay.url, "--count", "1", "--json")

    [withheld] = [each for each in listened.objects if each["event"] == "withheld"]
    assert withheld == {
        "event": "withheld",
        "reason": "not_a_contact",
        "id": unread,
        "type": "publish",
        "from": stranger.peer_id,
    }
    assert "buy this" not in listened.out + listened.err
    assert listened.last["payload"] == {"text": "hello"}


def test_people_are_not_told_of_those_whom_they_ignore(
    proven_alice: Shell, relay: RelayInThread
) -> None:
    stranger = KeyPair.generate()
    proven_alice.run("ignore", stranger.peer_id)
    write_to_alice(relay, stranger, "buy this")
    write_to_alice(relay, BOB, "hello")

    listened = proven_alice.run("listen", "--relay", relay.url, "--count", "1", "--no-presence")

    assert listened.out.endswith(f"{BOB_SHOWN}: hello\n")
    assert stranger.peer_id[-8:] not in listened.out + listened.err


def test_whom_one_wrote_to_may_answer_whatever_the_policy_is(
    proven_alice: Shell, impatient_relay: RelayInThread
) -> None:
    stranger, relay = KeyPair.generate(), impatient_relay
    proven_alice.run("policy", "contacts")
    with sync.Client(relay.url, stranger):
        proven_alice.run("send", "--relay", relay.url, stranger.peer_id, "lunch?")
    write_to_alice(relay, stranger, "at noon")

    listened = proven_alice.run("listen", "--relay", relay.url, "--count", "1", "--json")

    assert listened.last["payload"] == {"text": "at noon"}


def test_whom_one_writes_to_while_one_listens_may_answer_at_once(
    proven_alice: Shell, impatient_relay: RelayInThread
) -> None:
    stranger, relay = KeyPair.generate(), impatient_relay
    proven_alice.run("policy", "contacts")
    with (
        proven_alice.start("listen", "--relay", relay.url, "--json", "--no-presence") as listening,
        sync.Client(relay.url, stranger) as friend,
    ):
        connected = next_object(listening)
        proven_alice.run("send", "--relay", relay.url, stranger.peer_id, "lunch?")
        next(friend).reply({"text": "at noon"})
        heard = next_object(listening)

    assert (connected["event"], heard.get("payload")) == ("connected", {"text": "at noon"})


def test_a_stranger_is_answered_by_the_reference_that_listen_has_shown(
    proven_alice: Shell, relay: RelayInThread
) -> None:
    stranger = KeyPair.generate()
    write_to_alice(relay, stranger, "is there still tea?")
    proven_alice.run("listen", "--relay", relay.url, "--count", "1")

    short = f"@{stranger.peer_id[-8:]}"
    answered = proven_alice.run("send", "--relay", relay.url, short, "yes", "--json")

    assert (answered.code, answered.object["to"]) == (0, stranger.peer_id)


def test_recent_peers_that_cannot_be_read_are_told_once_and_keep_nothing_back(
    shell: Shell, relay: RelayInThread
) -> None:
    recent = default_recent_peers_path(shell.config)
    recent.write_bytes(b"this is no database" * 100)

    sent = shell.run("send", "--relay", relay.url, "bob", "hello")

    assert (sent.code, sent.out) == (0, f"stored for {BOB_SHOWN}\n")
    assert sent.err == f"recent peers are not remembered: {recent}: file is not a database\n"


def test_a_stranger_is_asked_about_and_its_messages_wait(
    proven_alice: Shell, relay: RelayInThread
) -> None:
    stranger = KeyPair.generate()
    proven_alice.run("policy", "ask")
    asking = write_to_alice(relay, stranger, "may I?")
    write_to_alice(relay, BOB, "hello")
    arguments = ["listen", "--relay", relay.url, "--count", "1", "--no-presence"]

    asked = proven_alice.run(*arguments)
    proven_alice.run("peers", "add", "mallory", stranger.peer_id)
    allowed = proven_alice.run(*arguments, "--json")

    assert f"? ~mallory@{stranger.peer_id[-8:]} asks to write to you" in asked.err
    assert f"agora peers add NAME {stranger.peer_id}" in asked.err
    assert "may I?" not in asked.out + asked.err
    assert (allowed.last["id"], allowed.last["payload"]) == (asking, {"text": "may I?"})


def test_a_contact_request_is_an_event_for_programs(
    proven_alice: Shell, relay: RelayInThread
) -> None:
    stranger = KeyPair.generate()
    proven_alice.run("policy", "ask")
    asking = write_to_alice(relay, stranger, "may I?")

    [asked] = events(proven_alice, "contact_request", "--relay", relay.url, "--timeout", "1")

    told = {"event": "contact_request", "id": asking, "type": "publish"}
    assert asked == told | {"from": stranger.peer_id, "claimedName": "mallory"}


def test_a_message_that_the_relay_gave_up_is_told(shell: Shell) -> None:
    with relay_in_thread(storage_peers=(BOB.peer_id,), max_nacks=1) as relay:
        sent = shell.run("send", "--relay", relay.url, "bob", "hello", "--json")
        with shell.start("listen", "--relay", relay.url, "--json", "--no-presence") as listening:
            connected = next_object(listening)
            with sync.Client(relay.url, BOB) as bob:
                next(bob).nack(0)
                bounced = next_object(listening)

    assert connected == {"event": "connected"}
    told = {"event": "bounced", "code": "undeliverable", "id": sent.object["id"]}
    assert bounced == told | {"to": BOB.peer_id, "name": "bob"}


def next_object(process: Any) -> dict[str, Any]:
    """Read the next JSON object that a process writes."""
    members: dict[str, Any] = json.loads(process.stdout.readline())
    return members
