"""The clock of a connection: what waits for a moment goes out at that moment."""

from __future__ import annotations

import agora
from agora.protocol.client.session import Timing
from tests.support import eventually


async def test_a_message_due_while_our_own_rate_holds_it_back_goes_out_when_it_may() -> None:
    timing = Timing(ping_interval=30.0, retry_first=0.1)
    nobody = agora.Identity.generate().peer_id

    async with (
        agora.Relay(port=0) as relay,
        agora.Client(
            relay.url, agora.Identity.generate(), rate_limit=(1, 0.4), timing=timing
        ) as alice,
    ):
        await alice.send(nobody, "hi")

        # Tried again after 0.1 s, but for the rate: so after 0.4 s, not with the next ping.
        await eventually(lambda: relay.counts.get("refused", 0) >= 2)
