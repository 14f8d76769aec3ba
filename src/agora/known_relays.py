"""
Known relays: the file in which a client remembers which key each relay has.

As SSH remembers hosts: the first time, a relay is believed; from then on it must
show the same key, until a person says that it has another.

A relay is known by its host and port (:func:`agora.protocol.proof.audience_of`),
whether TLS is spoken there or not. A port speaks one of the two; if the scheme
counted, whoever has a client dial ``ws://host:9470`` instead of
``wss://host:9470`` would be met as a relay never seen before, and believed. The
path does not count either, as relays serve any.

The one rule: no key is ever lost or replaced unasked. The file is whole at every
moment, a damaged one is left alone, and several processes may write it at once.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

from agora.canonical import Json, parse_json
from agora.errors import CanonicalJSONError, ConfigurationError, RelayChangedError
from agora.files import FilePath, sync_directory, write_new
from agora.keys import PeerId, is_peer_id
from agora.protocol.proof import audience_of

__all__ = ["KnownRelays", "default_known_relays_path", "place_of"]

MAX_BYTES: Final = 1024 * 1024
"""Some eight thousand relays; a longer file is neither read into memory nor written."""

_Found = TypeVar("_Found")


def default_known_relays_path(
    config_path: FilePath, environ: Mapping[str, str] = os.environ
) -> Path:
    """Return ``AGORA_KNOWN_RELAYS``, else ``known-relays.json`` beside the config file."""
    if file := environ.get("AGORA_KNOWN_RELAYS"):
        return Path(os.path.abspath(os.path.expanduser(file)))
    return Path(config_path).with_name("known-relays.json")


def place_of(url: str) -> str:
    """
    Return under what a relay is known: the host and port of its URL.

    Where there is no scheme, it is taken for ``wss``, which decides the port if
    that is missing too.

    >>> place_of("ws://Localhost:9470"), place_of("localhost:9470"), place_of("a.example")
    ('localhost:9470', 'localhost:9470', 'a.example:443')

    Raises:
        ConfigurationError: It names no place.
    """
    return audience_of(url if "://" in url else f"wss://{url}")


class KnownRelays:
    """
    The known relays in the file at *path*, which is made when there is one to remember.

    A relay is named by its URL, or as :meth:`all` lists it (`place_of`). Every
    call reads the file anew, for other processes write it too, and may block.

    Every method raises `ConfigurationError` when the file is damaged or cannot be
    used, or the URL names no place; the file is then as it was.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = Path(path)

    def all(self) -> dict[str, PeerId]:
        """Return the key of every relay, by ``host:port``."""
        with self._explained("read"):
            return self._relays(self._read())

    def expected(self, url: str) -> PeerId | None:
        """Return which key the relay at *url* must show; None when it was never met."""
        return self.all().get(place_of(url))

    def remember(self, url: str, relay: PeerId) -> None:
        """
        Believe that the relay at *url* has the key *relay*, unless another is known.

        Raises:
            RelayChangedError: Another is known; it stays.
        """
        place = place_of(url)
        known = self.all().get(place) or self._change(
            lambda relays: relays.setdefault(place, relay)
        )
        if known != relay:
            raise RelayChangedError(
                f"the relay at {url} has the key {relay}; known by this URL is {known}: someone "
                f"may stand between. If it is as it should be, run agora known-relays forget {url}"
            )

    def pin(self, url: str, relay: PeerId) -> PeerId | None:
        """Demand the key *relay* of the relay at *url* from now on; return which it was before."""
        place = place_of(url)

        def replace(relays: dict[str, PeerId]) -> PeerId | None:
            before = relays.get(place)
            relays[place] = relay
            return before

        return self._change(replace)

    def forget(self, url: str) -> bool:
        """Let the relay at *url* show any key next time; tell whether one was known."""
        place = place_of(url)
        if place not in self.all():
            return False
        return self._change(lambda relays: relays.pop(place, None)) is not None

    # The file

    def _change(self, change: Callable[[dict[str, PeerId]], _Found]) -> _Found:
        """Apply *change* to what the file holds while nobody else does, and return its result."""
        with self._explained("write"):
            target = Path(os.path.realpath(self.path))  # a link stays a link
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _only_one(target.with_name(f"{target.name}.lock")):
                members = self._read()
                relays = self._relays(members)
                before = dict(relays)
                result = change(relays)
                if relays != before:
                    _write(target, _encode({**members, "relays": dict(sorted(relays.items()))}))
        return result

    def _read(self) -> Mapping[str, Json]:
        try:
            with open(self.path, "rb") as file:
                content = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        if len(content) > MAX_BYTES:
            raise self._damaged(f"it has more than {MAX_BYTES} bytes")
        try:
            members = parse_json(content)
        except CanonicalJSONError as error:
            raise self._damaged(str(error)) from error
        if not isinstance(members, dict):
            raise self._damaged("not a JSON object")
        return members

    def _relays(self, members: Mapping[str, Json]) -> dict[str, PeerId]:
        listed = members.get("relays", {})
        if not isinstance(listed, dict):
            raise self._damaged('"relays" is not an object')
        return {place: self._key(place, key) for place, key in listed.items()}

    def _key(self, place: str, key: Json) -> PeerId:
        # Strictly: a relay in a spelling that is never looked up would be believed anew.
        if not is_peer_id(key):
            raise self._damaged(f"what it has for {place!r} is not a peer id")
        try:
            is_place = place_of(place) == place
        except ConfigurationError:
            is_place = False
        if not is_place:
            raise self._damaged(f"{place!r} is not a host in lower case, a colon and a port")
        return key

    def _damaged(self, how: str) -> ConfigurationError:
        return ConfigurationError(
            f"known relays: {self.path} is damaged: {how}. It was left as it is: mend it, or "
            "move it away to begin anew"
        )

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        """Let whatever goes wrong with the file be a `ConfigurationError` that names it."""
        try:
            yield
        except ConfigurationError:
            raise
        except (OSError, ValueError) as error:  # ValueError: a null character in the path
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(
                f"known relays: cannot {action} {self.path}: {reason}"
            ) from error


def _encode(members: Mapping[str, Json]) -> bytes:
    content = f"{json.dumps(members, indent=2)}\n".encode("ascii")
    if len(content) > MAX_BYTES:
        raise ValueError(f"it would have more than {MAX_BYTES} bytes")
    return content


def _write(target: Path, content: bytes) -> None:
    """Put a file with this content at *target* in one step, closed to others."""
    temporary = target.with_name(f".agora-{secrets.token_hex(8)}.tmp")
    try:
        write_new(temporary, content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(target.parent)


@contextmanager
def _only_one(path: Path) -> Iterator[None]:
    """
    Be the only one in this block, among all processes and threads; wait for whoever is.

    The file at *path* stays: if it went, the next two would hold locks on two files.
    """
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb+") as file:
        _wait_for_lock(file.fileno())
        yield  # closing the file lets the next one in, as does the end of the process


if sys.platform == "win32":
    import msvcrt

    def _wait_for_lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_LOCK, 1)

else:
    import fcntl

    def _wait_for_lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
