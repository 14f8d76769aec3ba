"""
An identity that lives in a file.

`Identity` is a `KeyPair` that can be loaded and saved; the file is the
reference's ``config.json`` (see `agora.files`), of which it is one member.
"""

from __future__ import annotations

from typing import Self

from agora.files import Config, FilePath, create_config, load_config, read_members, save_config
from agora.keys import KeyPair

__all__ = ["Identity"]


class Identity(KeyPair):
    """
    A key pair that can be kept.

    Whoever can read the file can sign as this peer, so it is written with mode
    0600, and not loaded while others have access to it (POSIX).
    """

    __slots__ = ()

    @classmethod
    def load(cls, path: FilePath) -> Self:
        """
        Return the identity in the config file at *path*.

        Raises:
            IdentityError: The file is missing, damaged, or open to others; the
                message names it and says what to do.
        """
        pair = load_config(path).identity
        return cls.from_hex(pair.public_key, pair.private_key)

    @classmethod
    def load_or_create(cls, path: FilePath) -> Self:
        """
        Return the identity in the config file at *path*, made now if there is none.

        A file without ``identity`` gets one and keeps what else it says. One
        that has an identity is never overwritten, however damaged. Of several
        processes that create the file at once, all return the same identity.

        Raises:
            IdentityError: As `load`, or the file cannot be written.
        """
        members = read_members(path)
        if members is None and create_config(path, Config(new := cls.generate())):
            return new
        if members is not None and "identity" not in members:
            save_config(path, Config(new := cls.generate(), members))
            return new
        return cls.load(path)

    def save(self, path: FilePath) -> None:
        """
        Write this identity into the config file at *path*, in place of any other.

        What else the file says stays. Afterwards only its owner can read it,
        whoever could before.

        Raises:
            IdentityError: The file there is not a config, or cannot be
                written; it is unchanged.
        """
        members = read_members(path, must_be_private=False) or {}
        save_config(path, Config(self, members))
