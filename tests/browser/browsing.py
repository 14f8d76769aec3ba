"""Where the browser is, what one says where there is none, and what it complains of."""

from __future__ import annotations

import os
import shutil
from typing import Final

from playwright.sync_api import BrowserContext, ConsoleMessage, WebError

__all__ = [
    "ADMIN_TOKEN",
    "DEADLINE_MS",
    "FLAGS",
    "WHY_SKIPPED",
    "Complaints",
    "chromium",
]

FLAGS: Final = [
    "--no-sandbox",  # tests may run as root, whom Chromium gives no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WHY_SKIPPED: Final = "no browser: apt install chromium, or say where one is in CHROMIUM"

DEADLINE_MS: Final = 20_000
"""Milliseconds after which what a test waits for will not come."""

ADMIN_TOKEN: Final = "a-token-for-tests-only"


def chromium() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


_REPORT_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI, sample }) =>
    console.error(`policy: ${violatedDirective} ${blockedURI} ${sample}`));
"""


class Complaints:
    """
    What the pages of a test had to complain of.

    Attributes:
        expected: Parts of complaints that belong to the test, such as that a relay is away.
    """

    def __init__(self) -> None:
        self.expected: list[str] = []
        self._heard: list[str] = []

    def watch(self, context: BrowserContext) -> None:
        """Listen to all pages of *context* from now on."""
        context.add_init_script(_REPORT_VIOLATIONS)
        context.on("console", self._take_console)
        context.on("weberror", self._take_error)

    def left(self) -> list[str]:
        """Return what was not expected."""
        return [text for text in self._heard if not any(part in text for part in self.expected)]

    def _take_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self._heard.append(message.text)

    def _take_error(self, error: WebError) -> None:
        self._heard.append(str(error.error))
