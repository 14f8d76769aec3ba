"""
One browser for a module; a context for each person, so nobody shares keys or history.

No test lets pass what the browser complains of: a violation of the content security policy,
an error in the console, an exception that nobody caught.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

import agora
from agora.testing import RelayInThread, relay_in_thread
from tests.browser.browsing import (
    DEADLINE_MS,
    FLAGS,
    WHY_SKIPPED,
    Complaints,
    chromium,
)
from tests.browser.person import Person

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--pictures",
        action="store_true",
        help="make the pictures of the documents too",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a browser where there is none, and pictures where nobody asked for them."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        is_picture = item.path.name == "test_pictures.py"
        if chromium() is None:
            item.add_marker(pytest.mark.skip(reason=WHY_SKIPPED))
        elif is_picture and not config.getoption("--pictures", default=False):
            item.add_marker(pytest.mark.skip(reason="the documents' pictures: make pictures"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """
    The browser, started once for a module.

    Not once for all: as long as it is there, this thread counts as running an event loop,
    and no asyncio test of another module could have one.
    """
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayInThread]:
    """A relay with both doors and a disk, for all tests of a module."""
    with relay_in_thread(http_port=0, data_dir=tmp_path_factory.mktemp("relay")) as running:
        yield running


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    """What browsers complain of during a test; at its end there must be none left."""
    gathered = Complaints()
    yield gathered
    assert gathered.left() == []


@pytest.fixture
def new_page(browser: Browser, complaints: Complaints) -> Iterator[Callable[..., Page]]:
    """A function that opens a page in a context of its own; it takes the context's options."""
    contexts: list[BrowserContext] = []

    def open_page(**options: Any) -> Page:
        context = browser.new_context(**options)
        context.set_default_timeout(DEADLINE_MS)
        complaints.watch(context)
        contexts.append(context)
        return context.new_page()

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.fixture
def person(new_page: Callable[..., Page], relay: RelayInThread) -> Callable[..., Person]:
    """A function that has somebody take part, in a browser of their own."""

    def take_part(name: str, **options: Any) -> Person:
        return Person(new_page(**options), relay.http_url or "", name)

    return take_part


@pytest.fixture
def agent(relay: RelayInThread) -> Iterator[Callable[..., agora.sync.Client]]:
    """A function that connects an agent of the Python library."""
    with contextlib.ExitStack() as agents:

        def connect(name: str, **options: Any) -> agora.sync.Client:
            client = agora.sync.Client(relay.url, agora.Identity.generate(), name=name, **options)
            return agents.enter_context(client)

        yield connect
