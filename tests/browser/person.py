"""Somebody at a browser: does with the chat what a person does, by what the page says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Locator, Page, expect

__all__ = ["Named", "Person"]


class Named(Protocol):
    """A peer, in a browser or not."""

    @property
    def peer_id(self) -> str: ...

    @property
    def name(self) -> str | None: ...


class Person:
    """
    A person who takes part.

    Attributes:
        page: The page they see.
        peer_id: Who they are.
    """

    def __init__(self, page: Page, url: str, name: str) -> None:
        self.page = page
        self.name = name
        page.goto(f"{url}/chat")
        page.get_by_label("Your name").fill(name)
        page.get_by_role("button", name="Make my key and begin").click()
        self.is_online()
        self.peer_id = page.evaluate("document.getElementById('own-id').textContent")

    def is_online(self) -> None:
        """Wait until the page says so."""
        expect(self.page.locator("#link")).to_have_text("Online")

    # Whom to talk to

    def row(self, who: Named | str) -> Locator:
        """Return the row of a peer, or of the conversation of this name."""
        if isinstance(who, str):
            return self.page.locator(".side .row", has=self.page.get_by_text(who, exact=True))
        return self.page.locator(f'.side [data-key="{who.peer_id}"] .row')

    def open(self, who: Named | str) -> None:
        """Open a conversation from the list."""
        self.row(who).click()
        name = who if isinstance(who, str) else who.name
        expect(self.page.locator("#title")).to_have_text(name or "")

    def write_to(self, *peers: str) -> None:
        """Begin a conversation with these peer ids."""
        self.page.get_by_role("button", name="New message").click()
        for peer in peers:
            self.page.get_by_label("To", exact=True).fill(peer)
            self.page.locator(".choices input").first.check()
        self.page.get_by_role("button", name="Open", exact=False).click()

    # Talking

    def say(self, text: str) -> Locator:
        """Write in the conversation that is open, and return the message as it is shown."""
        self.words.fill(text)
        self.words.press("Enter")
        return self.message(text)

    @property
    def words(self) -> Locator:
        """Where they write."""
        return self.page.locator("#words")

    @property
    def messages(self) -> Locator:
        """All messages that are shown."""
        return self.page.locator(".message")

    def message(self, text: str) -> Locator:
        """Return the message that says *text*."""
        return self.messages.filter(has=self.page.get_by_text(text, exact=True)).last

    def sees(self, text: str) -> Locator:
        """Wait until a message that says *text* is shown; return it."""
        message = self.message(text)
        expect(message).to_be_visible()
        return message

    def fate(self, text: str, words: str) -> None:
        """Wait until it says of the message *text* what has become of it."""
        expect(self.message(text).locator(".fate")).to_have_text(words)

    def shown(self) -> list[str]:
        """Return what the messages say, from the top."""
        return self.page.locator(".message .text").all_inner_texts()

    # Themselves

    def save_key(self, path: Path) -> dict[str, Any]:
        """Save a copy of the key, lock it, and return what is in the file."""
        self.page.get_by_role("button", name="You: name, key, identity").click()
        with self.page.expect_download() as download:
            self.page.get_by_role("button", name="Save a copy of the key").click()
        download.value.save_as(path)
        self.page.get_by_role("button", name="I have the file: lock the key").click()
        expect(self.page.get_by_text("The key is locked in this browser")).to_be_visible()
        self.page.keyboard.press("Escape")
        members: dict[str, Any] = json.loads(path.read_text())
        return members
