"""
The settings of a relay: one frozen dataclass, read once at the door and handed down.

Flags win over the environment, the environment over a ``.env`` file in the
working directory, that over the defaults. The names are the reference's where
it has them (``AGORA_PORT``, ``AGORA_RATE_LIMIT_ENABLED`` …).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

from agora.errors import ConfigurationError
from agora.keys import is_peer_id
from agora.limits import Limits, setting
from agora.protocol.admission import EnvelopePolicy

__all__ = ["RelayConfig", "environment_name", "from_environment", "parse_setting"]


@dataclass(frozen=True, kw_only=True)
class RelayConfig(Limits):
    """
    Everything that can be set on a relay: where it listens, what it keeps, what it admits.

    Raises:
        ConfigurationError: When a value is outside its bounds, or two do not fit together.
    """

    host: str = setting(
        "127.0.0.1",
        unit="",
        help="address to listen on; 0.0.0.0 or :: opens it to the network",
        reason="a relay that nobody has secured yet serves its own machine only",
    )
    port: int = setting(
        9470,
        unit="",
        help="port to listen on; 0 takes a free one",
        reason="the port agents expect",
        minimum=0,
        maximum=65_535,
    )
    data_dir: Path | None = setting(
        None,
        unit="",
        help="folder for mailboxes and the relay's own key",
        reason="kept across restarts",
    )
    memory: bool = setting(
        False,
        unit="",
        help="keep mailboxes in memory alone; the relay's own key is still kept",
        reason="mail should survive a restart",
    )
    storage_peers: tuple[str, ...] = setting(
        (),
        unit="peer ids",
        help="peers that have a mailbox here, comma-separated",
        reason="keys are free: a mailbox for everyone is a disk for everyone",
    )
    envelopes: str = setting(
        "strict",
        unit="",
        help="envelopes to take: strict (from and to, verified), legacy (also sender, verified), "
        "open (anything, unverified)",
        reason="what today's clients sign",
    )
    tls_cert: Path | None = setting(
        None,
        unit="",
        help="certificate chain (PEM) for wss://",
        reason="a proxy in front may do it instead",
    )
    tls_key: Path | None = setting(
        None, unit="", help="private key (PEM) of the certificate", reason="goes with tls_cert"
    )
    drain_timeout: float = setting(
        5.0,
        unit="s",
        help="time a graceful stop gives clients to take what was written to them",
        reason="orchestrators kill after ten",
        minimum=0.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_policy(self.envelopes)
        for peer in self.storage_peers:
            if not is_peer_id(peer):
                raise ConfigurationError(f"storage_peers holds {peer!r}, which is no peer id")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigurationError("tls_cert and tls_key go together: one of them is missing")

    @property
    def policy(self) -> EnvelopePolicy:
        """Which envelopes are taken."""
        return EnvelopePolicy(self.envelopes)


def _check_policy(text: str) -> None:
    if text not in set(EnvelopePolicy):
        known = " · ".join(EnvelopePolicy)
        raise ConfigurationError(f"envelopes of {text!r} is none of {known}")


def environment_name(declared: Field[Any]) -> str:
    """Return the environment variable of a setting."""
    return declared.metadata["env"] or f"AGORA_{declared.name.upper()}"


_ALIASES = {"data_dir": "AGORA_STORAGE_DIR"}
"""The reference's names for what has another name here."""


def from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """
    Return the settings that *environ* gives, by field name.

    Raises:
        ConfigurationError: When one cannot be read; the message names the variable.
    """
    found = {}
    for declared in fields(RelayConfig):
        names = (environment_name(declared), _ALIASES.get(declared.name, ""))
        name = next((name for name in names if environ.get(name)), None)
        if name is None:
            continue
        try:
            found[declared.name] = parse_setting(declared, environ[name])
        except ValueError as error:
            raise ConfigurationError(f"{name}: {error}") from error
    return found


def parse_setting(declared: Field[Any], text: str) -> Any:
    """
    Read the text of one setting as the type of its field.

    Raises:
        ValueError: When it cannot be read.
    """
    kind = str(declared.type)
    if kind == "bool":
        return _parse_bool(text)
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text)
    if kind.startswith("tuple"):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if kind.startswith("Path"):
        return Path(text).expanduser()
    return text


def _parse_bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in {"1", "true", "yes", "on"}:
        return True
    if lowered in {"0", "false", "no", "off"}:
        return False
    raise ValueError(f"{text!r} is neither true nor false")
