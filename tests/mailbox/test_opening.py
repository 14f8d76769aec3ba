"""A damaged file is noticed, set aside, and what can be read of it is kept."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from agora.errors import ConfigurationError
from agora.mailbox import Mailbox, SqliteMailbox
from agora.mailbox.damage import find_damage
from agora.mailbox.opening import OpenedMailbox, open_mailbox
from agora.mailbox.rescue import Rescued
from agora.protocol.relay.actions import Mail

from .storing import ALICE, BOB, BOUNDS, letter, storing, waiting
from .test_sqlite import made_by_a_newer_version, of_another_program

PAGE = 4096
LETTERS = [letter(n, "x" * random.Random(n).choice([9, 900, 9_000])) for n in range(1, 101)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "mailbox.sqlite3"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return data directories with all that can be kept: of a relay that stopped, and a crashed."""
    made = {name: tmp_path_factory.mktemp("made") / name for name in ("stopped", "crashed")}
    mailbox = SqliteMailbox(made["stopped"] / "mailbox.sqlite3", BOUNDS)
    for mail in LETTERS:
        mailbox.put(mail, now_ms=mail.position)
        if mail.position % 10 == 0:
            mailbox.commit()
    for peer in (ALICE, BOB):
        mailbox.pin(peer.peer_id, now_ms=0)
    mailbox.put(Mail(BOB.peer_id, ALICE.peer_id, "", "opaque", position=900), now_ms=1)
    for position in (901, 999):
        mailbox.put(letter(position, to=BOB), now_ms=1)
    mailbox.nack(BOB.peer_id, [letter(901, to=BOB).envelope_id], max_nacks=9)
    mailbox.bury(BOB.peer_id, [901], now_ms=7)
    mailbox.remove(BOB.peer_id, [999])
    mailbox.commit()
    shutil.copytree(made["stopped"], made["crashed"])  # with the log and all, as a crash leaves it
    mailbox.close()
    return made


def opened(path: Path) -> tuple[OpenedMailbox, SqliteMailbox]:
    result = open_mailbox(path.parent, BOUNDS)
    assert isinstance(result.mailbox, SqliteMailbox)
    return result, result.mailbox


def contents(mailbox: Mailbox) -> tuple[object, ...]:
    assert isinstance(mailbox, SqliteMailbox)
    return (
        waiting(mailbox),
        waiting(mailbox, BOB.peer_id),
        mailbox.dead_letters(),
        mailbox.pins(),
        mailbox.last_position(),
        mailbox.summaries(),
    )


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def flip(path: Path, offset: int) -> None:
    """Change a byte, whatever it is: what is random may be 0xFF already, once in 256 times."""
    overwrite(path, offset, bytes([path.read_bytes()[offset] ^ 0xFF]))


# What is sound


@pytest.mark.parametrize("name", ["stopped", "crashed"])
def test_a_sound_file_is_opened_as_it_is(folders: dict[str, Path], name: str, path: Path) -> None:
    shutil.copytree(folders[name], path.parent)

    result, mailbox = opened(path)
    kept = contents(mailbox)
    mailbox.close()

    assert result.accident is None
    assert kept[0] == [replace(mail, stored_ms=mail.position) for mail in LETTERS]


@pytest.mark.parametrize(("removed", "is_small"), [(2_000, True), (1_000, False)])
def test_a_file_that_was_drained_is_small_again_at_the_next_start(
    path: Path, removed: int, is_small: bool
) -> None:
    _, mailbox = opened(path)
    for position in range(1, 2_001):
        mailbox.put(Mail(BOB.peer_id, ALICE.peer_id, "", "x" * 12_000, position=position), now_ms=0)
    mailbox.remove(BOB.peer_id, range(1, removed + 1))
    mailbox.put(letter(3_000), now_ms=1)
    mailbox.commit()
    mailbox.close()
    full = path.stat().st_size

    _, mailbox = opened(path)
    kept = (mailbox.count(BOB.peer_id)[0], waiting(mailbox), mailbox.last_position())
    mailbox.close()

    assert kept == (2_000 - removed, [replace(letter(3_000), stored_ms=1)], 3_000)
    assert (path.stat().st_size < full / 100) == is_small
    assert find_damage(path) is None


def test_a_file_that_was_cut_to_nothing_is_damaged(path: Path) -> None:
    path.parent.mkdir()
    path.touch()

    result, mailbox = opened(path)
    mailbox.close()

    assert result.accident is not None
    assert result.accident.why == "it is empty"


def test_where_there_is_nothing_a_file_is_made(path: Path) -> None:
    result, mailbox = opened(path)
    mailbox.put(letter(1), now_ms=0)
    mailbox.commit()
    mailbox.close()

    assert result.accident is None
    assert path.stat().st_size > 0


@pytest.mark.parametrize("kill_after", [1, 5, 25])
def test_a_killed_process_leaves_no_damage(path: Path, kill_after: int) -> None:
    with storing("for_ever", path) as (process, said):
        for _ in range(kill_after):
            said.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert find_damage(path) is None
    result, mailbox = opened(path)
    mailbox.close()
    assert result.accident is None


def test_only_one_relay_opens_a_directory_and_closing_frees_it(path: Path) -> None:
    _, first = opened(path)
    with pytest.raises(
        ConfigurationError, match=f"in use by a relay \\(process {os.getpid()}\\): stop"
    ):
        open_mailbox(path.parent, BOUNDS)
    first.close()

    _, second = opened(path)
    second.close()


@pytest.mark.parametrize("make", [of_another_program, made_by_a_newer_version])
def test_a_sound_file_that_is_not_ours_is_refused_and_left_and_the_directory_free(
    path: Path, make: Callable[[Path], None]
) -> None:
    make(path)

    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"something else|newer relay"):
            open_mailbox(path.parent, BOUNDS)

    assert not list(path.parent.glob("*corrupt*"))


# What is damaged


def header_lost(path: Path) -> None:
    overwrite(path, 0, bytes(PAGE))


def every_inner_page_lost(path: Path) -> None:
    content = path.read_bytes()
    for offset in range(PAGE, len(content), PAGE):
        if content[offset] in (2, 5):
            overwrite(path, offset, b"\xff" * PAGE)


def log_header_flipped(path: Path) -> None:
    flip(Path(f"{path}-wal"), 16)


def log_flipped(path: Path) -> None:
    flip(Path(f"{path}-wal"), 32 + 24 + 4 * (PAGE + 24) + 4095)


def database_emptied(path: Path) -> None:
    os.truncate(path, 0)


def database_gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("stopped", header_lost),
        ("stopped", every_inner_page_lost),
        ("crashed", log_header_flipped),
        ("crashed", log_flipped),
    ],
)
def test_what_leads_to_mail_may_be_lost_and_the_mail_is_kept(
    folders: dict[str, Path], name: str, damage: Callable[[Path], None], path: Path
) -> None:
    shutil.copytree(folders[name], path.parent)
    _, sound = opened(path)
    before = contents(sound)
    sound.close()
    shutil.rmtree(path.parent)
    shutil.copytree(folders[name], path.parent)
    damage(path)

    result, mailbox = opened(path)
    after = contents(mailbox)
    mailbox.close()

    assert result.accident is not None
    assert result.accident.rescued == Rescued(mail=101, dead_letters=1, pins=2, damaged=0)
    assert after == before


@pytest.mark.parametrize("damage", [database_emptied, database_gone])
def test_a_log_without_its_database_is_read_too(
    folders: dict[str, Path], damage: Callable[[Path], None], path: Path
) -> None:
    shutil.copytree(folders["crashed"], path.parent)
    damage(path)

    result, mailbox = opened(path)
    pins = mailbox.pins()
    mailbox.close()

    assert result.accident is not None
    assert result.accident.why == "it is empty, and its log is not"
    assert set(pins) == {ALICE.peer_id, BOB.peer_id}


def test_a_log_that_ends_before_what_was_synced_is_noticed(
    folders: dict[str, Path], path: Path
) -> None:
    shutil.copytree(folders["crashed"], path.parent)
    log = Path(f"{path}-wal")
    os.truncate(log, log.stat().st_size - 3 * (PAGE + 24))

    assert "frames of" in (find_damage(path) or "")


def test_what_a_file_cut_in_half_still_has_is_kept(folders: dict[str, Path], path: Path) -> None:
    shutil.copytree(folders["stopped"], path.parent)
    os.truncate(path, path.stat().st_size // 2)

    result, mailbox = opened(path)
    kept = waiting(mailbox)
    mailbox.close()

    assert result.accident is not None
    assert 0 < len(kept) < len(LETTERS)
    assert set(kept) <= {replace(mail, stored_ms=mail.position) for mail in LETTERS}


def test_mail_that_is_not_what_its_sender_signed_is_left_out_and_counted(
    folders: dict[str, Path], path: Path
) -> None:
    shutil.copytree(folders["stopped"], path.parent)
    forged = LETTERS[49].text.encode()
    content = path.read_bytes()
    overwrite(path, content.index(forged[:300]) + forged.index(b'"payload"') + 14, b"HELLO")
    header_lost(path)

    result, mailbox = opened(path)
    kept = waiting(mailbox)
    mailbox.close()

    assert result.accident is not None
    assert result.accident.rescued == Rescued(mail=100, dead_letters=1, pins=2, damaged=1)
    assert [mail.position for mail in kept] == [n for n in range(1, 101) if n != 50]


def test_what_is_no_database_at_all_makes_way_and_is_kept_under_a_new_name(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("Dear diary, " * 1000)

    result, mailbox = opened(path)
    mailbox.close()

    assert result.accident is not None
    assert result.accident.set_aside is not None
    assert result.accident.why == "file is not a database"
    assert result.accident.set_aside.name.startswith("mailbox.sqlite3.corrupt-")
    assert result.accident.set_aside.read_text() == "Dear diary, " * 1000
    assert result.accident.rescued == Rescued()


def test_what_was_set_aside_is_never_overwritten(path: Path) -> None:
    for number in range(3):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"Dear diary {number}, " * 100)
        opened(path)[1].close()

    aside = sorted(file.read_text()[:12] for file in path.parent.glob("*corrupt*"))
    assert aside == ["Dear diary 0", "Dear diary 1", "Dear diary 2"]


def test_the_log_goes_aside_with_its_database_unchanged(
    folders: dict[str, Path], path: Path
) -> None:
    shutil.copytree(folders["crashed"], path.parent)
    log_header_flipped(path)
    before = {end: Path(f"{path}{end}").read_bytes() for end in ("", "-wal")}

    result, mailbox = opened(path)
    mailbox.close()

    assert result.accident is not None
    aside = result.accident.set_aside
    assert {end: Path(f"{aside}{end}").read_bytes() for end in ("", "-wal")} == before


# A crash while a damaged file is exchanged


@pytest.mark.parametrize("moved", [(), ("-wal",), ("-wal", "-shm"), ("-wal", "-shm", "")])
def test_a_crash_between_rescue_and_exchange_loses_nothing(
    folders: dict[str, Path], path: Path, moved: tuple[str, ...]
) -> None:
    shutil.copytree(folders["crashed"], path.parent)
    log_header_flipped(path)
    result, mailbox = opened(path)
    mailbox.close()
    assert result.accident is not None
    os.rename(path, f"{path}.rescued")
    for end in {"-wal", "-shm", ""} - set(moved):
        os.rename(f"{result.accident.set_aside}{end}", f"{path}{end}")

    result, mailbox = opened(path)
    kept = waiting(mailbox)
    mailbox.close()

    assert result.accident is not None
    assert len(kept) == len(LETTERS)
    assert not Path(f"{path}.rescued").exists()


# Whatever the damage


@pytest.mark.parametrize("name", ["stopped", "crashed"])
@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_damaged_a_relay_starts_and_what_it_has_is_genuine(
    folders: dict[str, Path], name: str, seed: int, path: Path
) -> None:
    """A bit, a block, or the rest of a file is lost, in the database or its log."""
    shutil.copytree(folders[name], path.parent)
    chance = random.Random(f"{name} {seed}")
    victim = chance.choice([file for file in path.parent.iterdir() if file.stat().st_size])
    place = chance.randrange(victim.stat().st_size)
    match seed % 3:
        case 0:
            overwrite(victim, place, bytes([victim.read_bytes()[place] ^ 1 << chance.randrange(8)]))
        case 1:
            overwrite(victim, place, chance.randbytes(2 * PAGE))
        case _:
            os.truncate(victim, place)

    result, mailbox = opened(path)
    kept = waiting(mailbox)
    damaged = [letter for letter in mailbox.dead_letters() if letter.is_damaged]
    mailbox.close()

    genuine = {(mail.envelope_id, mail.text) for mail in LETTERS}
    assert {(mail.envelope_id, mail.text) for mail in kept} <= genuine
    if result.accident is None:
        assert len(kept) + len(damaged) == len(LETTERS)


def test_of_a_file_too_long_to_read_the_ends_are_looked_at(
    folders: dict[str, Path], path: Path
) -> None:
    shutil.copytree(folders["stopped"], path.parent)
    sound = find_damage(path, checked_bytes=0)
    os.truncate(path, path.stat().st_size // 2)

    assert sound is None
    assert find_damage(path, checked_bytes=0) == "database disk image is malformed"
