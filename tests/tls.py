"""Throw-away certificate authorities, and what they sign."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme

__all__ = ["Certificates", "make_certificates"]


@dataclass(frozen=True, slots=True)
class Certificates:
    """
    A certificate for a relay on this machine, and who vouches for it.

    Attributes:
        chain: The relay's certificate, a PEM file.
        key: Its private key, a PEM file.
        authority: The authority to trust, a PEM file.
    """

    chain: Path
    key: Path
    authority: Path

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a relay that uses them."""
        return {"tls_cert": self.chain, "tls_key": self.key}

    def trusting(self) -> ssl.SSLContext:
        """Return the context of a client that trusts the authority, and no other."""
        return ssl.create_default_context(cafile=str(self.authority))


def make_certificates(folder: Path, *names: str) -> Certificates:
    """Make an authority, and a certificate of it for *names*; ``127.0.0.1`` if there are none."""
    folder.mkdir(exist_ok=True)
    made = Certificates(folder / "chain.pem", folder / "key.pem", folder / "authority.pem")
    authority = trustme.CA()
    certificate = authority.issue_cert(*(names or ("127.0.0.1",)))
    authority.cert_pem.write_to_path(str(made.authority))
    certificate.private_key_pem.write_to_path(str(made.key))
    for part in certificate.cert_chain_pems:
        part.write_to_path(str(made.chain), append=True)
    return made
