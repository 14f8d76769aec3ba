"""
One browser for all tests of a worker; a context of its own, so nobody shares keys or history.

No test lets pass what the browser complains of: a violation of the content security policy,
an error in the console, an exception that nobody caught.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.browsing import FLAGS, WHY_SKIPPED, chromium

if chromium() is None:
    pytest.skip(WHY_SKIPPED, allow_module_level=True)

import uvicorn
from litestar import Litestar
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from agora.relay.http.pages import PAGE_ROUTES


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, started once."""
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context()
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture(scope="session")
def pages_url() -> Iterator[str]:
    """The pages alone, without a relay behind them."""
    server = uvicorn.Server(
        uvicorn.Config(
            Litestar([*PAGE_ROUTES], openapi_config=None), port=0, log_level="warning", lifespan="off"
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        pass
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="session")
def assets() -> str:
    from agora.relay.http.pages import _shelf

    return f"/pages/{_shelf().digest}"
