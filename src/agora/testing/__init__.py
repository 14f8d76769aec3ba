"""
For people who test their agents: a relay in a fixture, a clock moved by hand, the contract checks.

The fixture ``agora_relay`` is there as soon as ``agora-relay[relay]`` and pytest
are installed, for plain and for asyncio tests alike::

    async def test_my_agent_answers(agora_relay):
        async with agora.Client(agora_relay.url, agora.Identity.generate()) as tester:
            ...
"""

from agora.testing.relay import RelayInThread, relay_in_thread

__all__ = ["RelayInThread", "relay_in_thread"]
