"""``agora keys``: key pairs in and out of files. A private key is shown only when asked for."""

from __future__ import annotations

import base64
import textwrap
from pathlib import Path

import click

from agora.cli.content import standard_input
from agora.cli.options import Asked, common_options
from agora.errors import IdentityError
from agora.files import (
    Config,
    create_config,
    load_config,
    mode_for_others,
    read_members,
    save_config,
    write_new,
)
from agora.keys import PRIVATE_KEY_PREFIX, KeyPair

__all__ = ["install", "keys"]


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def keys(context: click.Context) -> None:
    """Show your public key, make a key pair, take one elsewhere."""
    if context.invoked_subcommand is None:
        _show(context.ensure_object(Asked))


@keys.command()
@common_options
@click.pass_obj
def show(asked: Asked) -> None:
    """Print your public key, as `agora keys` alone does."""
    _show(asked)


@keys.command()
@common_options
@click.argument("file", required=False)
@click.pass_obj
def generate(asked: Asked, file: str | None) -> None:
    """
    Make a new key pair in FILE, by default the config file.

    Only its owner can read the file. One that is there is never overwritten.
    """
    path = Path(file) if file else asked.path
    pair = KeyPair.generate()
    if not create_config(path, Config(pair)):
        raise IdentityError(f"{path} is there already, and what it holds may be needed")
    asked.say(
        pair.public_key,
        {"status": "generated", "publicKey": pair.public_key, "path": str(path)},
    )
    asked.remark(f"made a new key pair in {path}")


@keys.command()
@common_options
@click.option("--private-key", is_flag=True, help="the private key: whoever has it is you")
@click.option(
    *("--format", "style"),
    type=click.Choice(["hex", "pem"]),
    metavar="[hex|pem]",
    default="hex",
    show_default=True,
    help="hex as in config files, or PEM as OpenSSL has it",
)
@click.argument("file", required=False)
@click.pass_obj
def export(asked: Asked, private_key: bool, style: str, file: str | None) -> None:
    """
    Write a key of yours to FILE, by default standard output.

    It is the public one unless asked otherwise. A new FILE is made, which only
    its owner can read.
    """
    pair = asked.load().identity
    kind = "PRIVATE" if private_key else "PUBLIC"
    key = pair.private_key if private_key else pair.public_key
    text = _to_pem(key, kind) if style == "pem" else key
    if file is None:
        asked.say(text, {f"{kind.lower()}Key": text})
        return
    try:
        write_new(Path(file), f"{text}\n".encode("ascii"))
    except FileExistsError as error:
        raise IdentityError(f"{file} is there already") from error
    asked.say(f"wrote {file}", {"status": "exported", "path": file, "publicKey": pair.public_key})


@keys.command(name="import")
@common_options
@click.option("--replace", is_flag=True, help="in place of another identity, which is lost")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.pass_obj
def import_(asked: Asked, replace: bool, file: str) -> None:
    """
    Make the private key in FILE your identity.

    A FILE of - is standard input. The key may be hex or PEM, as `agora keys
    export` writes them. Contacts and all else in your config file stay.
    """
    pair = _read_pair(standard_input() if file == "-" else _read_key(asked, Path(file)))
    path = asked.path
    install(path, pair, replace=replace)
    asked.say(
        pair.public_key,
        {"status": "imported", "publicKey": pair.public_key, "configPath": str(path)},
    )


def install(path: Path, pair: KeyPair, *, replace: bool) -> None:
    """
    Make *pair* the identity of the config file at *path*.

    Raises:
        IdentityError: It has another one, and nobody said *replace*.
    """
    members = read_members(path)
    if members is None:
        if create_config(path, Config(pair)):
            return
        members = read_members(path) or {}  # made by another process in this very moment
    if "identity" not in members or replace:
        save_config(path, Config(pair, members))
    elif load_config(path).identity.public_key != pair.public_key:
        raise IdentityError(f"{path} holds another identity; --replace overwrites it for good")


def _read_key(asked: Asked, path: Path) -> bytes:
    with open(path, "rb") as file:
        mode = mode_for_others(file.fileno())
        if mode is not None:
            asked.remark(f"{path}: others can use it (mode {mode:04o}): the key may be known")
        return file.read()


def _show(asked: Asked) -> None:
    public_key = asked.load().identity.public_key
    asked.say(public_key, {"publicKey": public_key})


# Formats


def _to_pem(key: str, kind: str) -> str:
    body = textwrap.fill(base64.b64encode(bytes.fromhex(key)).decode(), 64)
    return f"-----BEGIN {kind} KEY-----\n{body}\n-----END {kind} KEY-----"


def _read_pair(content: bytes) -> KeyPair:
    """Return the key pair of a private key in hex or PEM."""
    try:
        text = content.decode("ascii").strip()
        if text.startswith(_PEM_BEGIN):
            text = base64.b64decode("".join(text.splitlines()[1:-1])).hex()
        if not text.startswith(PRIVATE_KEY_PREFIX):
            raise IdentityError("of another kind than Ed25519")
        return KeyPair.from_seed(bytes.fromhex(text.removeprefix(PRIVATE_KEY_PREFIX)))
    except ValueError as error:  # not ASCII, base64 or hex; too long or too short
        raise IdentityError(
            "not an Ed25519 private key, which has 96 hex digits, or PEM; "
            f"this has {len(content.strip())} characters"
        ) from error


_PEM_BEGIN = "-----BEGIN PRIVATE KEY-----"
