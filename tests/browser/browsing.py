"""Where the browser is, what one says where there is none, and what it complains of."""

from __future__ import annotations

import os
import shutil
from typing import Final

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, WebError

__all__ = [
    "ADMIN_TOKEN",
    "DEADLINE_MS",
    "FLAGS",
    "WHY_SKIPPED",
    "Complaints",
    "chromium",
    "hard_to_read",
]

FLAGS: Final = [
    "--no-sandbox",  # tests may run as root, whom Chromium gives no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP relay.test 127.0.0.1",  # a name that browsers do not trust
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


def hard_to_read(page: Page) -> list[str]:
    """Return the texts of a page whose contrast is below 4.5 (WCAG 2.2, AA), with what it is."""
    found: list[tuple[str, float]] = page.evaluate(_CONTRASTS)
    assert found, "a page that shows nothing"
    return [f"{text}: {ratio:.2f}" for text, ratio in found if ratio < 4.5]


_CONTRASTS: Final = """() => {
    const channels = (colour) => {
        const canvas = document.createElement("canvas").getContext("2d");
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (colour) => channels(colour).slice(0, 3)
        .map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, at) => sum + value * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const { backgroundColor } = getComputedStyle(at);
            if (channels(backgroundColor)[3] === 255) return backgroundColor;
        }
        return getComputedStyle(document.documentElement).backgroundColor;
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
        const element = node.parentElement;
        const seen = { opacityProperty: true, visibilityProperty: true };
        if (!node.data.trim() || !element.checkVisibility(seen)) continue;
        const { color } = getComputedStyle(element);
        const [one, other] = [light(color), light(behind(element))].sort((a, b) => b - a);
        const ratio = (one + 0.05) / (other + 0.05);
        found.push([node.data.slice(0, 40), ratio]);
    }
    return found;
}"""
