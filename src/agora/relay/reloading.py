"""
What becomes of new settings in a relay that runs: which count now, which wait for a restart.

The table is in the settings themselves: each says when it takes effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from agora.relay.config import SETTINGS, RelayConfig
from agora.settings import Effect

__all__ = ["Change", "changed_settings", "compare"]


@dataclass(frozen=True, slots=True)
class Change:
    """
    The way from the settings of a running relay to others.

    Attributes:
        config: What it goes by from now on.
        changed: The names of what is another than before in it.
        waiting: The names of what would be another after a restart.
    """

    config: RelayConfig
    changed: tuple[str, ...]
    waiting: tuple[str, ...]


def compare(running: RelayConfig, wanted: RelayConfig) -> Change:
    """
    Return what of *wanted* a relay can take over that goes by *running*.

    Raises:
        ConfigurationError: When what it can take over does not fit what it cannot.
    """
    different = changed_settings(vars(running), vars(wanted))
    waiting = tuple(name for name in different if _needs_restart(name, running, wanted))
    changed = tuple(name for name in different if name not in waiting)
    config = replace(running, **{name: getattr(wanted, name) for name in changed})
    return Change(config, changed, waiting)


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the names of the settings that are not the same in both.

    >>> changed_settings({"port": 1, "host": "::1"}, {"port": 2, "host": "::1"})
    ('port',)
    """
    return tuple(name for name in SETTINGS if before.get(name) != after.get(name))


def _needs_restart(name: str, running: RelayConfig, wanted: RelayConfig) -> bool:
    if name in ("tls_cert", "tls_key"):
        # A socket speaks TLS or it does not; which certificate it shows can change.
        return (running.tls_cert is None) != (wanted.tls_cert is None)
    effect: Effect = SETTINGS[name].metadata["effect"]
    return effect is Effect.RESTART
