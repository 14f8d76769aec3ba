"""
The pictures of the documents: `make pictures`. What they show was really said.

But the dashboard's hour: nobody waits an hour for a picture, so its traffic is made up, which
the documents say beside it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

import agora
from agora.testing import RelayInThread, relay_in_thread
from tests.browser.browsing import ADMIN_TOKEN
from tests.browser.person import Person

IMAGES = Path(__file__).parents[2] / "docs" / "images"

Agent = agora.sync.Client


@pytest.fixture
def watched() -> Iterator[RelayInThread]:
    """A relay whose figures can be asked for."""
    with relay_in_thread(http_port=0, admin_token=ADMIN_TOKEN) as running:
        yield running


def hear(text: str, *agents: Agent) -> None:
    """Have agents take what came, up to a message that says *text*."""
    for one in agents:
        for message in one:
            message.ack()
            if message.text == text:
                break


def keep(page: Page, name: str) -> None:
    """Write what is seen as a PNG of few colours: a third of the bytes, and no eye sees it."""
    seen = Image.open(BytesIO(page.screenshot(animations="disabled")))
    few = seen.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    few.save(IMAGES / name, optimize=True)


def test_the_chat(
    person: Callable[..., Person], agent: Callable[..., Agent], relay: RelayInThread
) -> None:
    ada = person("Ada", viewport={"width": 1180, "height": 760}, timezone_id="UTC")
    weather, planner, archive = agent("weather"), agent("planner"), agent("archive")
    sleeper = agora.Identity.generate()
    with Agent(relay.url, sleeper, name="night-shift") as night:
        night.send(ada.peer_id, {"text": "All quiet. Good night!"})
        ada.open(night)
        ada.sees("All quiet. Good night!")
    ada.say("Thanks! Please look at the leak in hall 2 when you are back")
    ada.fate(
        "Thanks! Please look at the leak in hall 2 when you are back",
        "Stored for them at the relay",
    )
    archive.broadcast({"text": "Back-up done: 1,204 notes"})
    ada.page.get_by_role("button", name="Later").click()

    ada.write_to(weather.peer_id, planner.peer_id)
    ada.say("Can we paint the roof on Thursday?")
    hear("Can we paint the roof on Thursday?", weather, planner)
    group = [ada.peer_id, planner.peer_id]
    weather.send_group(
        group,
        {"text": "Thursday, from eight:", "sky": "clear", "wind_km_h": 9, "rain": None},
    )
    planner.send_group([ada.peer_id, weather.peer_id], {"text": "Then I book the scaffold"})
    ada.sees("Then I book the scaffold")
    ada.say("Wonderful. I bring the ladder")
    hear("Wonderful. I bring the ladder", weather, planner)
    ada.fate("Wonderful. I bring the ladder", "Delivered to all 2")
    expect(ada.row("Everyone").locator(".badge")).to_have_text("1")

    keep(ada.page, "chat.png")
    ada.page.emulate_media(color_scheme="dark")
    ada.page.set_viewport_size({"width": 390, "height": 760})
    ada.page.locator("#words").blur()
    keep(ada.page, "chat-phone.png")


def test_the_dashboard(new_page: Callable[..., Page], watched: RelayInThread) -> None:
    names = ("weather", "planner", "archive", "crawler", "translator", "night-shift")
    with ExitStack() as agents:
        for name in names:
            agents.enter_context(Agent(watched.url, agora.Identity.generate(), name=name))
        _take_dashboard(new_page, watched, len(names))


def _take_dashboard(new_page: Callable[..., Page], relay: RelayInThread, peers: int) -> None:
    page = new_page(viewport={"width": 1180, "height": 885}, timezone_id="UTC")
    page.route("**/admin/overview", with_made_up_hour)

    page.goto(f"{relay.http_url}/#token={ADMIN_TOKEN}")
    expect(page.locator("#peers li")).to_have_count(peers)

    keep(page, "dashboard.png")


def with_made_up_hour(route: Route) -> None:
    """Answer with what the relay says, but for an hour of traffic that there was not."""
    overview: dict[str, Any] = route.fetch().json()
    wave = [
        60 + 34 * math.sin(n / 31) + 11 * math.sin(n / 3.3) + 7 * math.sin(n / 1.7)
        for n in range(360)
    ]
    messages = [int(value) + (110 if 214 <= n < 226 else 0) for n, value in enumerate(wave)]
    overview["history"] |= {
        "messages": messages,
        "stored": [value // 7 for value in messages],
        "errors": [4 if 214 <= n < 220 else int(n % 47 == 0) for n in range(360)],
        "peers": [2 + n // 90 + (n > 240) for n in range(359)] + [6],
    }
    overview["rates"] |= {"messages": messages[-1] / 10, "errors": 0.0, "bytes": 6_120.0}
    overview["startedAt"] -= 3_600_000 * 26
    route.fulfill(body=json.dumps(overview), content_type="application/json")
