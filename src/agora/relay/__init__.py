"""The relay's shell: sockets, threads and clocks around the core in :mod:`agora.protocol`."""

from agora.relay.config import RelayConfig
from agora.relay.server import Relay

__all__ = ["Relay", "RelayConfig"]
