"""The dashboard says what happened at the relay, to whoever has its token."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

import agora
from agora.testing import RelayInThread, relay_in_thread
from tests.browser.browsing import ADMIN_TOKEN, Complaints, hard_to_read

Pages = Callable[..., Page]


@pytest.fixture
def relay() -> Iterator[RelayInThread]:
    """A relay of the test's own, as figures are about all that happened."""
    with relay_in_thread(http_port=0, admin_token=ADMIN_TOKEN) as running:
        yield running


@pytest.fixture
def board(page: Page, relay: RelayInThread) -> Page:
    """The dashboard, opened as the relay prints it."""
    page.goto(f"{relay.http_url}/#token={ADMIN_TOKEN}")
    expect(page.locator("#state")).to_have_text("Live")
    return page


def row(board: Page, table: str, name: str) -> Locator:
    """Return the row of a table that begins with *name*."""
    return board.locator(f"#{table} tbody tr", has=board.get_by_text(name, exact=True))


def test_the_figures_agree_with_what_was_sent(
    board: Page, relay: RelayInThread, agent: Callable[..., agora.sync.Client]
) -> None:
    sleeper = agora.Identity.generate()
    with agora.sync.Client(relay.url, sleeper, name="sleeper"):
        pass
    writer, reader = agent("writer"), agent("reader")

    for number in range(5):
        writer.post(reader.peer_id, number)
        next(reader).ack()
    for number in range(3):
        writer.send(sleeper.peer_id, number)
    writer.post(agora.Identity.generate().peer_id, "nobody")

    expect(board.locator("#peers-now")).to_have_text("2")
    expect(board.locator("#mail-now")).to_have_text("3")
    expect(board.locator("#mail-more")).to_contain_text("for 1 peer")
    expect(row(board, "outcomes", "delivered").locator("td")).to_have_text("5")
    expect(row(board, "outcomes", "stored").locator("td")).to_have_text("3")
    expect(row(board, "codes", "unknown recipient").locator("td")).to_have_text("1")
    expect(row(board, "errors", "unknown_recipient")).to_contain_text(f"@{writer.peer_id[-8:]}")
    expect(row(board, "mailboxes", f"@{sleeper.peer_id[-8:]}").locator("td").first).to_have_text(
        "3"
    )
    expect(board.locator("#peers .name")).to_contain_text(["writer", "reader"])


def test_a_name_that_deceives_the_eye_is_shown_without_what_does_it(
    board: Page, agent: Callable[..., agora.sync.Client]
) -> None:
    agent("<b>gnp\u202e\u2066exe.\u200bscr\x1b[31m")

    expect(board.locator("#peers .name")).to_have_text(["<b>gnpexe.scr[31m"])


def test_a_relay_where_nothing_happens_says_so(board: Page) -> None:
    for words in (
        "Nobody is online.",
        "No mail waits.",
        "No message yet.",
        "Nothing was refused.",
        "No error yet.",
    ):
        expect(board.get_by_text(words)).to_be_visible()
    expect(board.locator("#messages-now")).to_have_text("0")


def test_the_address_that_a_relay_prints_is_that_of_its_dashboard(page: Page) -> None:
    command = [sys.executable, "-m", "agora", "relay", "--port", "0", "--memory"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        said, address, *_ = running.stdout.readline().split()
        page.goto(address)

        assert said == "dashboard"
        expect(page.locator("#state")).to_have_text("Live")
        page.goto("about:blank")
        running.terminate()


def test_the_token_leaves_the_address_and_stays_with_the_tab(
    board: Page, relay: RelayInThread
) -> None:
    assert board.url == f"{relay.http_url}/"

    board.reload()

    expect(board.locator("#state")).to_have_text("Live")
    board.get_by_role("button", name="Forget the token").click()
    expect(board.get_by_label("Admin token")).to_be_focused()
    expect(board.locator("#board")).to_be_hidden()


def test_who_has_no_token_is_asked_for_it(
    page: Page, relay: RelayInThread, complaints: Complaints
) -> None:
    complaints.expected += ["status of 401"]  # the browser's own word of a refusal
    page.goto(f"{relay.http_url}/")

    page.get_by_label("Admin token").fill("a wrong one")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The relay does not know this token")
    page.get_by_label("Admin token").fill(ADMIN_TOKEN)
    page.get_by_role("button", name="Show the figures").click()

    expect(page.locator("#state")).to_have_text("Live")


def test_a_relay_that_is_away_is_said_so_and_followed_when_it_is_back(
    board: Page, relay: RelayInThread, complaints: Complaints
) -> None:
    complaints.expected += ["ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET"]

    relay.stop()
    expect(board.locator("#state")).to_have_text("The relay is away")
    expect(board.get_by_role("alert").filter(has_text="has not answered since")).to_be_visible()
    relay.start()

    expect(board.locator("#state")).to_have_text("Live")
    expect(board.locator("#away")).to_be_hidden()


def test_a_chart_is_read_by_keyboard_and_as_a_table(board: Page) -> None:
    chart = board.get_by_role("slider", name="Messages per second, last hour")

    chart.focus()
    board.keyboard.press("Home")
    board.keyboard.press("PageUp")
    board.keyboard.press("ArrowRight")
    assert chart.get_attribute("aria-valuenow") == "31"
    assert "per second accepted" in (chart.get_attribute("aria-valuetext") or "")
    board.get_by_text("As a table").first.click()

    expect(board.locator("#messages-chart tbody tr")).to_have_count(12)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(
    new_page: Pages, relay: RelayInThread, agent: Callable[..., agora.sync.Client], scheme: str
) -> None:
    agent("a-name-that-is-rather-long-for-so-small-a-screen")
    page = new_page(viewport={"width": 320, "height": 600}, color_scheme=scheme)

    page.goto(f"{relay.http_url}/#token={ADMIN_TOKEN}")
    expect(page.locator("#peers li")).to_have_count(1)

    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert hard_to_read(page) == []
