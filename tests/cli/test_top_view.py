"""How an overview looks: as wide and as high as the terminal, whatever there is."""

from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from rich.console import Console

from agora.cli.overview import Overview
from agora.cli.top_view import View
from agora.keys import KeyPair

PEER = KeyPair.from_seed(bytes(32)).peer_id
NOW = 1_800_000_000_000


def overview(peers: int = 0, held: int = 0, errors: int = 0, **members: Any) -> Overview:
    """Return what a relay would tell."""
    told: dict[str, Any] = {
        "relay": PEER,
        "version": "1.2.3",
        "now": NOW,
        "startedAt": NOW - 90_000_000,
        "connections": 12_345,
        "sessions": 12_345,
        "peersOnline": peers,
        "rates": {"messages": 1_234.5, "errors": 99.94, "bytes": 123_456_789.0},
        "totals": {
            "messages": {"delivered": 10**9, "stored": 10**6, "refused": 10**5},
            "errors": {f"code_number_{number}": number for number in range(20)},
        },
        "history": {
            "step": 10,
            "until": NOW,
            **{name: [*range(360)] for name in ("messages", "errors", "stored", "peers")},
        },
        "mailboxes": {
            "count": held,
            "messages": held,
            "bytes": 10**9,
            "oldestMs": NOW - 10**9,
            "largest": [
                {"peer": PEER, "messages": 1_000, "bytes": 10**7, "oldestMs": NOW - 10**8}
                for _ in range(held)
            ],
        },
        "peers": [
            {
                "publicKey": PEER,
                "name": "a name that has no end, or nearly none" * 2,
                "sessions": 1,
                "door": "websocket",
                "since": NOW - 5_000,
            }
            for _ in range(peers)
        ],
        "recentErrors": [
            {"at": NOW - number, "code": "rate_limited", "peer": None} for number in range(errors)
        ],
    }
    return msgspec.convert(told | members, Overview)


def shown(view: View, width: int = 80) -> list[str]:
    """Return the lines of a view."""
    console = Console(file=io.StringIO(), width=width, legacy_windows=False)
    console.print(view)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().rstrip("\n").splitlines()]


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("height", [10, 24, 60])
def test_it_fits_a_terminal_whatever_there_is(width: int, height: int) -> None:
    view = View(overview(200, 20, 100), "http://localhost:9471", note="! gone", height=height)
    lines = shown(view, width)

    assert max(map(len, lines)) <= width
    assert len(lines) <= max(height, 16)


def test_what_has_no_place_is_counted() -> None:
    lines = shown(View(overview(200, 2, 3), "", height=40))

    [rest] = [line for line in lines if line.startswith("and ")]
    assert rest == f"and {200 - sum('websocket' in line for line in lines)} more"
    assert len(lines) == 40
    assert sum("rate_limited" in line for line in lines) == 3


def test_without_a_height_everything_is_there() -> None:
    lines = shown(View(overview(200, 20, 100), ""))

    assert sum("websocket" in line for line in lines) == 200
    assert sum("rate_limited" in line for line in lines) == 100


def test_mailboxes_that_cannot_be_read_are_said_to_be() -> None:
    assert "mailboxes: they cannot be read now" in shown(View(overview(mailboxes=None), ""))
