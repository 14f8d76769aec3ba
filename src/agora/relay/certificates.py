"""
A relay's certificate: read at the start, and read again while sessions go on.

A TLS context can be given another certificate at any time: who is connected
keeps the old one, who comes gets the new one. The one rule: a context that
serves is given nothing that has not been tried on another first.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NoReturn

from agora.errors import ConfigurationError
from agora.files import open_regular

__all__ = ["load_certificate", "renew_certificate"]


def load_certificate(chain: Path, key: Path | None) -> ssl.SSLContext:
    """
    Return what a relay shows to who connects.

    Raises:
        ConfigurationError: When a file cannot be read, or they do not go together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _load(context, chain, key)
    return context


def renew_certificate(context: ssl.SSLContext, chain: Path, key: Path | None) -> None:
    """
    Show *chain* to whoever connects from now on.

    Raises:
        ConfigurationError: When it cannot be used; *context* is as it was.
    """
    load_certificate(chain, key)  # half of a pair that does not fit would stay in the context
    _load(context, chain, key)


def _load(context: ssl.SSLContext, chain: Path, key: Path | None) -> None:
    def refuse_to_ask() -> NoReturn:
        raise ConfigurationError(
            f"{key or chain} has a passphrase, and nobody is asked for it: give a tls_key without "
            "(openssl pkey -in WITH -out WITHOUT)"
        )

    try:
        for path in (chain, key or chain):
            open_regular(path).close()  # OpenSSL would wait for whoever writes to a pipe
        context.load_cert_chain(chain, key, password=refuse_to_ask)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"cannot use certificate {chain} with key {key}: {error}"
        ) from error
