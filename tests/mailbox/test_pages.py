"""How a page is cut: as much as fits, and no further look than that takes."""

from __future__ import annotations

from collections.abc import Iterator

from agora.keys import PeerId
from agora.mailbox.fitting import cut_page
from agora.protocol.relay.actions import Mail


def test_a_page_looks_at_one_message_more_than_it_gives() -> None:
    looked_at: list[Mail] = []

    def waiting() -> Iterator[Mail]:
        for number in range(100):
            looked_at.append(Mail("r", PeerId("s"), str(number), "x" * 1000))
            yield looked_at[-1]

    page = cut_page(waiting(), max_messages=50, max_bytes=3500)

    assert (len(page.mail), page.is_last) == (3, False)
    assert len(looked_at) == 4
