"""What a client keeps on disk: told when it is there, in order, for one peer and one process."""

from __future__ import annotations

import logging
import os
import resource
import sqlite3
import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from random import Random
from threading import Event
from typing import Any

import pytest

from agora.client.store import ClientStore, NotKeptError, StoreInUseError, default_store_path
from agora.client.store_file import SCHEMA_VERSION
from agora.envelope import Envelope, seal
from agora.errors import ClosedError, ConfigurationError
from agora.keys import KeyPair

ALICE = KeyPair.from_seed(bytes(range(32)))
BOB = KeyPair.from_seed(bytes(range(32, 64)))
CAROL = KeyPair.from_seed(bytes(range(64, 96)))
DEADLINE = 30.0
DAY_MS = 86_400_000


def letter(payload: Any, sender: KeyPair = ALICE, to: KeyPair = BOB) -> Envelope:
    return seal(sender, type="publish", payload=payload, to=to.peer_id, timestamp_ms=1)


class Desk:
    """A store in use; the test's own thread is the loop that it reports to."""

    def __init__(self, path: Path, peer: KeyPair = ALICE, **options: Any) -> None:
        self.now_ms = 1_700_000_000_000
        self.told: list[tuple[str, Exception | None]] = []
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.store = ClientStore(path, peer_id=peer.peer_id, clock=lambda: self.now_ms, **options)
        self.store.start(self._posted.put)

    def keep(self, payload: Any, *, confirm: bool = False) -> int:
        return self.store.keep(BOB.peer_id, letter(payload), confirm, self.hears("kept"))

    def saw(self, envelope_id: str, sender: KeyPair = BOB, **options: Any) -> None:
        self.store.saw(sender.peer_id, envelope_id, self.hears("saw"), **options)

    def has_seen(self, envelope_id: str, sender: KeyPair = BOB) -> bool:
        return self.store.has_seen(sender.peer_id, envelope_id)

    def hears(self, what: str) -> Callable[[Exception | None], None]:
        return lambda error: self.told.append((what, error))

    def wait(self, count: int) -> list[tuple[str, Exception | None]]:
        """Run what is posted until *count* results were told."""
        while len(self.told) < count:
            self._posted.get(timeout=DEADLINE)()
        return self.told

    def payloads(self) -> list[Any]:
        return [kept.envelope.payload for kept in self.store.outgoing()]


@contextmanager
def desk(path: Path, peer: KeyPair = ALICE, **options: Any) -> Iterator[Desk]:
    desk = Desk(path, peer, **options)
    try:
        yield desk
    finally:
        desk.store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agora" / "config.outbox.sqlite3"


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """Look into a store that is closed, or change it behind its back."""
    connection = sqlite3.connect(path)
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


# The outbox


def test_what_was_kept_is_there_after_a_restart_in_order(path: Path) -> None:
    with desk(path) as before:
        numbers = [before.keep(n, confirm=n == 2) for n in range(5)]
        assert before.wait(5) == [("kept", None)] * 5

    with desk(path) as after:
        kept = after.store.outgoing()

    assert [message.number for message in kept] == numbers
    assert [message.envelope for message in kept] == [letter(n) for n in range(5)]
    assert {message.to for message in kept} == {BOB.peer_id}
    assert [message.confirm for message in kept] == [False, False, True, False, False]


def test_what_was_let_go_is_not_there_after_a_restart(path: Path) -> None:
    with desk(path) as before:
        first, _ = before.keep("first"), before.keep("second")
        before.store.let_go(first)

    with desk(path) as after:
        assert after.payloads() == ["second"]


def test_a_renewed_envelope_takes_the_place_of_the_old(path: Path) -> None:
    with desk(path) as before:
        first, _ = before.keep("old"), before.keep("second")
        before.store.renew(first, letter("new"), before.hears("renewed"))
        assert before.wait(3)[-1] == ("renewed", None)

    with desk(path) as after:
        assert after.payloads() == ["new", "second"]


def test_renewing_what_was_let_go_brings_nothing_back(path: Path) -> None:
    with desk(path) as before:
        first = before.keep("old")
        before.store.let_go(first)
        before.store.renew(first, letter("new"), before.hears("renewed"))

    with desk(path) as after:
        assert after.payloads() == []


def test_what_is_kept_after_a_restart_is_behind_what_waits(path: Path) -> None:
    with desk(path) as before:
        before.keep("one")
        before.keep("two")

    with desk(path) as after:
        after.keep("three")
        after.wait(1)
        assert after.payloads() == ["one", "two", "three"]


def test_what_is_told_as_kept_can_be_read_by_another_connection(path: Path) -> None:
    with desk(path) as here:
        here.keep("x")
        here.wait(1)
        with database(path) as beside:
            assert beside.execute("SELECT count(*) FROM outgoing").fetchone() == (1,)


def test_what_was_let_go_leaves_the_disk_though_nothing_else_is_written(path: Path) -> None:
    written = Event()
    store = ClientStore(path, peer_id=ALICE.peer_id)
    store.start(lambda results: written.set())
    number = store.keep(BOB.peer_id, letter("x"), False, lambda error: None)
    written.wait(DEADLINE)
    written.clear()

    store.let_go(number)

    assert written.wait(DEADLINE)
    assert store.outgoing() == []
    store.close()


# What is damaged in it


def change_row(path: Path, statement: str, *values: object) -> None:
    with database(path) as connection:
        connection.execute(statement, values)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("envelope", letter("x").wire_text.replace('"x"', '"y"').encode()),
        ("envelope", letter("x", sender=CAROL).wire_text.encode()),
        ("envelope", letter("x").wire_text),
        ("envelope", b"\xff\xfe"),
        ("envelope", 17),
        ("recipient", CAROL.peer_id),
        ("recipient", b"\xff\xfe"),
        ("recipient", "nobody"),
    ],
)
def test_a_damaged_message_is_set_aside_and_told_and_keeps_no_other_back(
    path: Path, column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    with desk(path) as before:
        numbers = [before.keep(n) for n in range(3)]
    change_row(path, f"UPDATE outgoing SET {column} = ? WHERE number = ?", value, numbers[1])

    with desk(path) as after:
        assert after.payloads() == [0, 2]
        assert after.payloads() == [0, 2]
        assert [message.number for message in after.store.damaged] == [numbers[1]]

    with desk(path) as again:
        assert again.payloads() == [0, 2]
        assert again.store.damaged == ()
    with database(path) as connection:
        assert connection.execute(f"SELECT {column} FROM damaged").fetchall() == [(value,)]
    assert [record.message for record in caplog.records] == ["damaged message set aside"]


def test_what_is_damaged_can_be_read_before_the_store_has_started(path: Path) -> None:
    with desk(path) as before:
        number = before.keep("x")
    change_row(path, "UPDATE outgoing SET envelope = 'y'")

    store = ClientStore(path, peer_id=ALICE.peer_id)

    assert store.outgoing() == []
    assert [message.number for message in store.damaged] == [number]
    store.close()


# What was seen


def test_an_id_is_known_at_once_and_after_a_restart(path: Path) -> None:
    with desk(path) as before:
        assert not before.has_seen("a")
        before.saw("a")
        assert before.has_seen("a")
        assert before.wait(1) == [("saw", None)]
        assert before.has_seen("a")

    with desk(path) as after:
        assert after.has_seen("a")
        assert not after.has_seen("b")


def test_the_same_id_of_another_sender_is_not_known(path: Path) -> None:
    with desk(path) as here:
        here.saw("a", BOB)

        assert not here.has_seen("a", CAROL)


def test_a_forgotten_id_is_unknown_at_once_and_after_a_restart(path: Path) -> None:
    with desk(path) as before:
        before.saw("a")
        before.store.forget(BOB.peer_id, "a")
        assert not before.has_seen("a")
        before.wait(1)
        assert not before.has_seen("a")

    with desk(path) as after:
        assert not after.has_seen("a")


def test_an_id_seen_again_after_it_was_forgotten_is_known(path: Path) -> None:
    with desk(path) as before:
        before.saw("a")
        before.store.forget(BOB.peer_id, "a")
        before.saw("a")
        assert before.has_seen("a")

    with desk(path) as after:
        assert after.has_seen("a")


def test_what_became_of_a_message_is_kept(path: Path) -> None:
    with desk(path) as before:
        before.saw("good")
        before.saw("bad", outcome="failed")
        before.saw("mended", outcome="failed")
        before.saw("mended", outcome="processed")

    with desk(path) as after:
        outcomes = [after.store.outcome_of(BOB.peer_id, i) for i in ("good", "bad", "mended", "?")]
    assert outcomes == ["processed", "failed", "processed", None]


def test_an_id_is_forgotten_when_it_is_too_old(path: Path) -> None:
    with desk(path, seen_for=14 * 86_400.0) as before:
        before.saw("old")
        before.wait(1)
        before.now_ms += 10 * DAY_MS
        before.saw("young")
        before.wait(2)

    now = 1_700_000_000_000 + 15 * DAY_MS
    store = ClientStore(path, peer_id=ALICE.peer_id, clock=lambda: now)
    assert not store.has_seen(BOB.peer_id, "old")
    assert store.has_seen(BOB.peer_id, "young")
    store.close()


def test_the_ids_are_bounded_and_the_oldest_go(path: Path) -> None:
    with desk(path, max_seen=50) as before:
        for number in range(3_000):
            before.saw(f"{number}")
        before.wait(3_000)
        known = sum(before.has_seen(f"{number}") for number in range(3_000))
        assert known <= 50 + 1_000

    with desk(path, max_seen=50) as after:
        known_ids = [number for number in range(3_000) if after.has_seen(f"{number}")]
    assert known_ids == list(range(2_950, 3_000))


# What the disk does not take


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """Let no file of this process grow beyond the log of *path* as it is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(os.name != "posix", reason="limits are those of POSIX")
def test_a_full_disk_is_told_and_later_it_works_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with desk(path) as here:
        here.keep("before")
        here.wait(1)
        with full_disk(path):
            here.keep("x" * 100_000)
            here.saw("a")
            assert here.has_seen("a")
            refused = here.wait(3)[1:]
            assert not here.has_seen("a")
        here.keep("after")
        here.saw("a")
        assert here.wait(5)[3:] == [("kept", None), ("saw", None)]
        assert here.has_seen("a")

    assert [type(error) for _, error in refused] == [NotKeptError, NotKeptError]
    assert "not kept on disk: " in str(refused[0][1])
    with desk(path) as after:
        assert after.payloads() == ["before", "after"]
    assert {record.message for record in caplog.records} == {"store commit failed"}
    caplog.clear()


def test_ids_that_cannot_be_read_are_unknown_and_it_is_said(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with desk(path) as before:
        before.saw("a")
        before.wait(1)
        with database(path) as beside:
            beside.execute("DROP TABLE seen")

        assert not before.has_seen("a")

    assert [record.message for record in caplog.records] == ["seen ids cannot be read"]
    caplog.clear()


# Whose file it is


def test_a_second_store_on_the_same_file_is_refused(path: Path) -> None:
    with desk(path), pytest.raises(StoreInUseError, match="is in use by another process: stop"):
        Desk(path)


def test_a_link_to_the_file_is_the_same_file(path: Path) -> None:
    link = path.with_name("link.sqlite3")
    with desk(path):
        link.symlink_to(path)
        with pytest.raises(StoreInUseError):
            Desk(link)


def test_the_file_is_free_when_it_is_closed(path: Path) -> None:
    for _ in range(2):
        with desk(path) as here:
            here.store.close()
            here.store.close()


def test_the_file_of_another_identity_is_refused(path: Path) -> None:
    with desk(path, ALICE):
        pass

    with pytest.raises(ConfigurationError, match="give each identity a file of its own"):
        Desk(path, BOB)

    with desk(path, ALICE) as again:  # nothing is left locked
        assert again.store.set_aside is None


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    with desk(path):
        pass
    change_row(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")

    with pytest.raises(ConfigurationError, match="it was made by a newer agora"):
        Desk(path)


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION])
def test_a_database_of_something_else_is_refused_and_keeps_what_it_has(
    path: Path, version: int
) -> None:
    path.parent.mkdir()
    with database(path) as diary:
        diary.execute("CREATE TABLE diary (day TEXT)")
        diary.execute(f"PRAGMA user_version = {version}")

    with pytest.raises(ConfigurationError, match="is a database of something else"):
        Desk(path)

    with database(path) as diary:
        assert diary.execute("SELECT name FROM sqlite_master").fetchall() == [("diary",)]


@pytest.mark.parametrize("place", ["", "under a file/store"])
def test_a_path_that_can_be_no_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "under a file").write_text("")

    with pytest.raises(ConfigurationError, match="cannot be used as a store"):
        Desk(tmp_path / place)


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_nobody_else_can_read_it(path: Path) -> None:
    with desk(path):
        pass
    path.chmod(0o644)

    with desk(path) as here:
        here.keep("secret")
        here.wait(1)
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    endings = ("", "-wal", "-shm", ".lock")
    assert modes == {f"{path.name}{ending}": 0o600 for ending in endings}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_store_of_an_identity_is_beside_its_config_file() -> None:
    assert default_store_path("home/config.json") == Path("home/config.outbox.sqlite3")
    assert default_store_path("home/bob.json") == Path("home/bob.outbox.sqlite3")


# A damaged file


def truncated_to_nothing(path: Path) -> None:
    path.write_bytes(b"")


def truncated_in_the_middle(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwritten(path: Path) -> None:
    path.write_bytes(b"Dear diary, " * 1_000)


def with_a_page_of_noise(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:8192] = bytes(range(256)) * 16
    path.write_bytes(content)


def without_an_owner(path: Path) -> None:
    change_row(path, "UPDATE owner SET peer_id = 'nobody'")


def away_but_for_its_log(path: Path) -> None:
    path.rename(f"{path}-wal")


@pytest.mark.parametrize(
    "damage",
    [
        truncated_to_nothing,
        truncated_in_the_middle,
        overwritten,
        with_a_page_of_noise,
        without_an_owner,
        away_but_for_its_log,
    ],
)
def test_a_damaged_file_is_set_aside_and_told(
    path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    with desk(path) as before:
        before.keep("lost")
    damage(path)
    files = sorted(file.read_bytes() for file in path.parent.iterdir())

    with desk(path) as after:
        aside = after.store.set_aside
        assert aside is not None
        assert aside.name == "config.outbox.sqlite3.corrupt-20231114T221320000000Z"
        assert after.payloads() == []
        after.keep("new")

    kept = sorted(
        file.read_bytes() for file in path.parent.iterdir() if file != path
    )  # the lock is empty
    assert kept == files
    assert [record.message for record in caplog.records] == ["damaged store set aside"]
    with desk(path) as again:
        assert (again.payloads(), again.store.set_aside) == (["new"], None)


def outcome_of_opening(path: Path) -> str:
    """Say in one word how a store that held ten messages, and may be damaged, opens."""
    try:
        with desk(path) as here:
            payloads = here.payloads()
            if here.store.set_aside is not None:
                return "set aside" if payloads == [] else "half"
            missing = 10 - len(payloads)
            is_told = len(here.store.damaged) == missing
            return "whole" if missing == 0 else "told" if is_told else "silent"
    except ConfigurationError:
        return "refused"


def flipped(content: bytes, chance: Random) -> bytes:
    changed = bytearray(content)
    changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def truncated(content: bytes, chance: Random) -> bytes:
    return content[: chance.randrange(len(content))]


def outcomes_of(
    path: Path, damage: Callable[[bytes, Random], bytes], *, tries: int
) -> Iterator[str]:
    with desk(path) as before:
        for number in range(10):
            before.keep(number)
    sound, chance = path.read_bytes(), Random(1)
    for _ in range(tries):
        path.write_bytes(damage(sound, chance))
        yield outcome_of_opening(path)
        for file in path.parent.iterdir():
            file.unlink()


@pytest.mark.parametrize("damage", [flipped, truncated])
@pytest.mark.parametrize("tries", [100, pytest.param(2_000, marks=pytest.mark.long)])
def test_no_damage_makes_a_message_vanish_in_silence(
    path: Path, damage: Callable[[bytes, Random], bytes], tries: int
) -> None:
    logging.disable(logging.CRITICAL)
    try:
        outcomes = Counter(outcomes_of(path, damage, tries=tries))
    finally:
        logging.disable(logging.NOTSET)

    assert set(outcomes) <= {"whole", "told", "set aside", "refused"}


# Life


def test_closing_writes_what_was_told(path: Path) -> None:
    with desk(path) as before:
        for number in range(100):
            before.keep(number)
            before.saw(f"{number}")

    with desk(path) as after:
        assert after.payloads() == list(range(100))
        assert all(after.has_seen(f"{number}") for number in range(100))


def test_a_closed_store_takes_nothing(path: Path) -> None:
    with desk(path) as here:
        here.store.close()

        with pytest.raises(ClosedError):
            here.keep("late")


def test_all_is_written_though_the_loop_has_gone(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(callback: object) -> None:
        raise RuntimeError("Event loop is closed")

    store = ClientStore(path, peer_id=ALICE.peer_id)
    store.start(gone)
    for number in range(3):
        store.keep(BOB.peer_id, letter(number), False, lambda error: None)
    store.close()

    with desk(path) as after:
        assert after.payloads() == [0, 1, 2]
    assert {record.message for record in caplog.records} == {"store results not told"}
