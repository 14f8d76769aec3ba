"""
The config file: who I am, whom I know, which relay I use.

The layout is the reference's, so its users keep their keys, and members that
Agora does not know stay as they are. The one rule: the file holds a private
key, so at every moment of its life it is whole, and closed to everybody else.
Beside it is the list of those who are ignored, again where the reference has it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Final, TypeAlias

from agora.canonical import Json, parse_json
from agora.errors import AgoraError, CanonicalJSONError, ConfigurationError, IdentityError
from agora.keys import KeyPair, is_peer_id, peer_id
from agora.protocol.client.consent import ContactPolicy
from agora.references import Contact, expand
from agora.text import sanitize_text

__all__ = [
    "MAX_CONFIG_BYTES",
    "Config",
    "FileIsThereError",
    "FilePath",
    "config_path",
    "create_config",
    "ignored_path",
    "load_config",
    "load_ignored",
    "mode_for_others",
    "new_file",
    "open_regular",
    "read_members",
    "save_config",
    "save_ignored",
    "sync_directory",
    "write_new",
]

FilePath: TypeAlias = str | os.PathLike[str]

MAX_CONFIG_BYTES: Final = 4 * 1024 * 1024
"""Some ten thousand contacts; a longer file is refused rather than read into memory."""

# One path segment: letters and digits of any script, no separator, nothing hidden, no "..".
_PROFILE: Final = re.compile(r"\w(?:[\w.-]{0,62}\w)?")


@dataclass(frozen=True, slots=True)
class Config:
    """
    What a config file says.

    Attributes:
        identity: The key pair.
        members: The whole file as it was read, known members and unknown ones.
    """

    identity: KeyPair
    members: Mapping[str, Json] = field(default_factory=dict, repr=False)  # holds the private key

    @property
    def name(self) -> str | None:
        """What to be called at a relay: ``relay.name``, else ``identity.name``."""
        return _string(self._object("relay"), "name") or _string(self._object("identity"), "name")

    @property
    def relay_url(self) -> str | None:
        """The relay to connect to, in the file a string or the ``url`` of an object."""
        return _string(self.members, "relay") or _string(self._object("relay"), "url")

    @property
    def contacts(self) -> tuple[Contact, ...]:
        """The known peers, one for each key; of two entries for a key the later counts."""
        found = (_contact(key, entry) for key, entry in self._object("peers").items())
        return tuple({contact.public_key: contact for contact in found if contact}.values())

    @property
    def contact_policy(self) -> ContactPolicy:
        """
        Who may write to us: ``contactPolicy``, a member of ours; without it everybody.

        Raises:
            ConfigurationError: It is none that there is. Nobody guesses what was meant.
        """
        policy = self.members.get("contactPolicy", ContactPolicy.OPEN)
        if policy not in list(ContactPolicy):
            raise ConfigurationError(
                f"contactPolicy of {policy!r} is none of {' · '.join(ContactPolicy)}"
            )
        return ContactPolicy(str(policy))

    def with_contact_policy(self, policy: ContactPolicy) -> Config:
        """Return a config with this policy."""
        return self._with("contactPolicy", str(policy))

    def with_contact(self, contact: Contact) -> Config:
        """
        Return a config that knows *contact*; a peer known before is called as *contact* says.

        Raises:
            IdentityError: The key is not a peer id.
            ConfigurationError: The name would not be found again.
        """
        public_key = peer_id(contact.public_key)
        _check_name(contact)
        entry = self._entry(public_key) | {"publicKey": public_key, "name": contact.name}
        if contact.name is None:
            del entry["name"]
        others = self.without_contact(public_key)._object("peers")
        return self._with("peers", {**others, public_key: entry})

    def without_contact(self, public_key: str) -> Config:
        """Return a config that does not know this peer; the same one if it never did."""
        peers = self._object("peers")
        kept = {
            key: entry for key, entry in peers.items() if _string(entry, "publicKey") != public_key
        }
        return self if len(kept) == len(peers) else self._with("peers", kept)

    def with_relay_url(self, url: str) -> Config:
        """Return a config for the relay at *url*; what else the file says about relays stays."""
        relay = self._object("relay")
        return self._with("relay", {**relay, "url": url} if relay else url)

    def with_name(self, name: str) -> Config:
        """Return a config with *name* as ``identity.name``, and for the relay where it had one."""
        named = self._with("identity", {**self._object("identity"), "name": name})
        relay = self._object("relay")
        return named._with("relay", {**relay, "name": name}) if "name" in relay else named

    def to_members(self) -> dict[str, Json]:
        """Return what the file is to hold."""
        identity: dict[str, Json] = {
            **self._object("identity"),
            "publicKey": self.identity.public_key,
            "privateKey": self.identity.private_key,
        }
        return {"identity": {}, "peers": {}, **self.members} | {"identity": identity}

    def _object(self, name: str) -> dict[str, Json]:
        value = self.members.get(name)
        return value if isinstance(value, dict) else {}

    def _entry(self, public_key: str) -> dict[str, Json]:
        """Return a copy of all that the file says about this peer."""
        entry: dict[str, Json] = {}
        for value in self._object("peers").values():
            if isinstance(value, dict) and value.get("publicKey") == public_key:
                entry |= value
        return entry

    def _with(self, name: str, value: Json) -> Config:
        return replace(self, members={**self.members, name: value})


def config_path(profile: str | None = None, environ: Mapping[str, str] = os.environ) -> Path:
    """
    Return where the config file is; whether there is one is not looked at.

    ================  ========================================================
    a *profile*       ``profiles/<profile>/config.json`` in the directory;
                      ``config.json`` in it for the profile ``default``
    ``AGORA_CONFIG``  that file
    neither           ``config.json`` in the directory
    ================  ========================================================

    The directory is ``AGORA_CONFIG_DIR``, else ``~/.config/agora``. A profile
    wins over ``AGORA_CONFIG`` because it was asked for by name; in the
    reference the variable wins, and the wrong identity signs without a word.

    Raises:
        ConfigurationError: The profile's name is not one safe path segment.
    """
    directory = _absolute(environ.get("AGORA_CONFIG_DIR") or "~/.config/agora")
    if profile is None:
        file = environ.get("AGORA_CONFIG")
        return _absolute(file) if file else directory / "config.json"
    if not _PROFILE.fullmatch(profile):
        raise ConfigurationError(
            f"profile {profile!r}: a name has 1 to 64 letters, digits and '_', "
            "and between them '-' and '.'"
        )
    if profile == "default":
        return directory / "config.json"
    return directory / "profiles" / profile / "config.json"


def load_config(path: FilePath) -> Config:
    """
    Return what the config file at *path* says.

    Raises:
        IdentityError: The file is missing, damaged, without a key pair, or
            (POSIX) open to others; the message names it.
    """
    members = read_members(path)
    if members is None:
        raise IdentityError(f"Config file not found at {path}. Run 'agora init' first.")
    return Config(_key_pair(members, path), members)


def save_config(path: FilePath, config: Config) -> None:
    """
    Write *config* to *path* with mode 0600.

    The file is replaced in one step: after a crash it is the old or the new
    one. A symbolic link stays, and the file it points to is replaced.

    Raises:
        IdentityError: It cannot be written; what was there is unchanged.
    """
    with _naming(path, "write"):
        _write(path, _encode(config), overwrite=True)


def create_config(path: FilePath, config: Config) -> bool:
    """
    Write *config* as `save_config` does unless there is a file; tell whether it was written.

    Of several processes that create the same file at once, one succeeds.
    """
    with _naming(path, "write"):
        return _write(path, _encode(config), overwrite=False)


def read_members(path: FilePath, *, must_be_private: bool = True) -> dict[str, Json] | None:
    """
    Return what the config file at *path* holds, not yet understood; None if there is no file.

    Raises:
        IdentityError: It is not a JSON object, or *must_be_private* and (POSIX) open to others.
    """
    with _naming(path, "read"):
        content = _read(path, must_be_private=must_be_private)
    return None if content is None else _decode(content, path)


def ignored_path(config_path: FilePath) -> Path:
    """Return where the list of ignored peers is: beside the config file."""
    return Path(config_path).with_name("IGNORED_PEERS.md")


def load_ignored(path: FilePath) -> tuple[str, ...]:
    """
    Return who is on the list at *path*, sorted; nobody if there is none.

    A line is a peer id; those that begin with ``#`` say nothing. What is no peer
    id stays on the list, and ignores nobody.

    Raises:
        ConfigurationError: It cannot be read: rather that than to hear whom we ignore.
    """
    with _naming(path, "read", "ignore list", ConfigurationError):
        content = _read(path, must_be_private=False)
    lines = (content or b"").decode("utf-8", "surrogateescape").split("\n")
    stripped = {line.strip() for line in lines}
    return tuple(sorted(line for line in stripped if line and not line.startswith("#")))


def save_ignored(path: FilePath, peers: Iterable[str]) -> None:
    """
    Write the list as the reference does, in one step.

    Raises:
        ConfigurationError: It cannot be written; what was there is unchanged.
    """
    lines = ["# Ignored peers", "# One public key per line", *sorted(set(peers))]
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    with _naming(path, "write", "ignore list", ConfigurationError):
        _write(path, content, overwrite=True)


# What the members mean


def _string(value: object, name: str) -> str | None:
    """Return the member *name* of *value* if there is one and it says something."""
    member = value.get(name) if isinstance(value, Mapping) else None
    return member if isinstance(member, str) and member else None


def _contact(key: str, entry: Json) -> Contact | None:
    if not isinstance(entry, dict) or not (public_key := _string(entry, "publicKey")):
        return None
    if isinstance(entry.get("name"), str):
        return Contact(public_key, _string(entry, "name"))
    # Older files have the name where newer ones have the key.
    return Contact(public_key, key if key and key != public_key else None)


def _check_name(contact: Contact) -> None:
    """Refuse a name that could be taken for a reference, or that breaks the line it is shown in."""
    name = contact.name
    if name is None:
        return
    is_found = expand(name, [contact]) == contact.public_key and not is_peer_id(name)
    is_shown = sanitize_text(name) == name and len(name.splitlines()) == 1
    if not (is_found and is_shown) or name.startswith(("@", "...")):
        raise ConfigurationError(
            f"contact name {name!r}: a name is one line, does not begin with '@' or '...', "
            "has no space at an end and does not look like a peer id or short reference"
        )


def _key_pair(members: Mapping[str, Json], path: FilePath) -> KeyPair:
    identity = members.get("identity")
    public_key, private_key = _string(identity, "publicKey"), _string(identity, "privateKey")
    if public_key is None or private_key is None:
        raise IdentityError(
            f"Invalid config: missing identity.publicKey or identity.privateKey: {path}"
        )
    try:
        return KeyPair.from_hex(public_key, private_key)
    except IdentityError as error:
        raise IdentityError(f"Invalid config: identity: {error}: {path}") from error


# From bytes to members and back


def _decode(content: bytes, path: FilePath) -> dict[str, Json]:
    if not content:
        raise IdentityError(f"Invalid config: {path} is empty; remove it and run agora init")
    try:
        # Some Windows editors put a byte order mark in front.
        members = parse_json(content.removeprefix(b"\xef\xbb\xbf"))
    except CanonicalJSONError as error:
        raise IdentityError(f"Invalid JSON in config file: {path}: {error}") from error
    if not isinstance(members, dict):
        raise IdentityError(f"Invalid config: not a JSON object: {path}")
    return members


def _encode(config: Config) -> bytes:
    text = json.dumps(config.to_members(), indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate stands in a string, where "backslashreplace" is its JSON escape.
    return (text + "\n").encode("utf-8", "backslashreplace")


# The file


@contextmanager
def _naming(
    path: FilePath,
    action: str,
    what: str = "config file",
    kind: type[AgoraError] = IdentityError,
) -> Iterator[None]:
    """Let whatever goes wrong be an error of one *kind* that names the file."""
    try:
        yield
    except AgoraError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        # ValueError: a null character in the path; RecursionError: json.dumps on a deep value
        reason = getattr(error, "strerror", None) or error
        raise kind(f"Cannot {action} {what}: {path}: {reason}") from error


def _absolute(path: str) -> Path:
    return Path(os.path.abspath(os.path.expanduser(path)))


def _read(path: FilePath, *, must_be_private: bool) -> bytes | None:
    try:
        with open_regular(path) as file:
            if must_be_private:
                _refuse_open_to_others(file.fileno(), path)
            content = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > MAX_CONFIG_BYTES:
        raise IdentityError(f"Invalid config: more than {MAX_CONFIG_BYTES} bytes: {path}")
    return content


def open_regular(path: FilePath) -> BinaryIO:
    """
    Open a file to read it, and nothing that would have us wait: no pipe, no terminal.

    Raises:
        OSError: It is not there, closed to us, or not a regular file.
    """
    file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115  # its reader closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    return file


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting, as a pipe would have us, for somebody to write."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def mode_for_others(descriptor: int) -> int | None:
    """Return the mode of an opened file that others than its owner can use; else None."""
    status = os.fstat(descriptor)
    mode = stat.S_IMODE(status.st_mode)
    is_open = os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO)
    return mode if is_open and stat.S_ISREG(status.st_mode) else None


def _refuse_open_to_others(descriptor: int, path: FilePath) -> None:
    """Check the opened file, which nobody can exchange between this look and the reading."""
    mode = mode_for_others(descriptor)
    if mode is not None:
        raise IdentityError(
            f"{path} holds a private key and others can use it (mode {mode:04o}): "
            f"run chmod 600 {shlex.quote(os.fspath(path))}"
        )


def _write(path: FilePath, content: bytes, *, overwrite: bool) -> bool:
    """Put a file with this content at *path* in one step; tell whether it was done."""
    try:
        with new_file(path, overwrite=overwrite) as file:
            file.write(content)
    except FileIsThereError:
        return False
    return True


class FileIsThereError(FileExistsError):
    """There is a file of that name already, which is as it was."""


@contextmanager
def new_file(path: FilePath, *, overwrite: bool, follows_link: bool = True) -> Iterator[BinaryIO]:
    """
    Give a file to write that is at *path* when the block ends well: whole, on the disk, private.

    Args:
        path: Where it is to be.
        overwrite: Whether it may take the place of another.
        follows_link: Whether a link at *path* stays, and the file is where that leads.

    Raises:
        FileIsThereError: When there is one already, or a link, which nobody wanted to overwrite.
    """
    target = Path(os.path.realpath(path)) if follows_link else Path(path)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = target.with_name(f".agora-{secrets.token_hex(8)}.tmp")
    try:
        with _private(temporary) as file:
            yield file
        if not _move(temporary, target, overwrite=overwrite):
            raise FileIsThereError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(target.parent)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is closed to others from its first byte, and on the disk with its last."""
    with _private(path) as file:
        file.write(content)


@contextmanager
def _private(path: Path) -> Iterator[BinaryIO]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _move(source: Path, target: Path, *, overwrite: bool) -> bool:
    if not overwrite:
        try:
            os.link(source, target)  # unlike a rename, this fails if the target exists
            return True
        except OSError:  # it does, or this file system has no hard links (FAT)
            if os.path.lexists(target):  # a link that leads nowhere is there, too
                return False
    os.replace(source, target)
    return True


def sync_directory(directory: Path) -> None:
    """Put the new name on the disk as well, where a directory can be opened (not on Windows)."""
    with suppress(OSError):  # the file is there already, and that it stays is all that is in doubt
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
