"""People and agents talk: two browsers and the Python library, over one relay."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

import agora
from agora.testing import RelayInThread
from tests.browser.browsing import Complaints, hard_to_read
from tests.browser.person import Person

PersonFactory = Callable[..., Person]
AgentFactory = Callable[..., agora.sync.Client]

HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>[a](javascript:1)'
"""What would be markup, code or a link wherever text is taken for one."""


# Talking


def test_two_people_talk_with_each_other(person: PersonFactory) -> None:
    ada, bob = person("Ada"), person("Bob")

    ada.open(bob)
    ada.say("hello Bob")
    expect(bob.row(ada).locator(".badge")).to_have_text("1")
    expect(bob.page).to_have_title("(1) Agora chat")
    bob.open(ada)
    bob.sees("hello Bob")
    expect(bob.page).to_have_title("Agora chat")
    bob.say("hello Ada")

    ada.sees("hello Ada")
    ada.fate("hello Bob", "Delivered and processed")


def test_a_person_and_an_agent_answer_each_other(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, weather = person("Ada"), agent("weather")

    ada.open(weather)
    ada.say("how is it?")
    question = next(weather)
    receipt = question.reply({"sky": "clear", "degrees": [21.5, -0.0]})
    question.ack()

    assert (question.sender, question.payload) == (ada.peer_id, {"text": "how is it?"})
    answer = ada.messages.last
    expect(answer.locator(".quote")).to_contain_text("You: how is it?")
    expect(answer.locator("pre")).to_have_text(
        '{\n  "degrees": [\n    21.5,\n    0\n  ],\n  "sky": "clear"\n}'
    )
    ada.fate("how is it?", "Delivered and processed")
    assert receipt.settled(timeout=10) == "delivered"


def test_an_agent_hears_that_its_message_is_kept(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, asker = person("Ada"), agent("asker")

    receipt = asker.send(ada.peer_id, {"text": "got it?"}, confirm=True)

    assert receipt.confirmed(timeout=10) == "processed"


def test_a_request_is_answered_by_a_response(person: PersonFactory, agent: AgentFactory) -> None:
    ada, asker = person("Ada"), agent("asker")

    asked = asker.post(ada.peer_id, {"text": "may I?"}, type="request")
    ada.open(asker)
    ada.sees("may I?").hover()
    ada.message("may I?").get_by_role("button", name="Reply").click()
    ada.say("you may")
    answer = next(asker)

    assert (answer.type, answer.in_reply_to, answer.text) == ("response", asked.id, "you may")


def test_a_group_is_one_envelope_to_several(person: PersonFactory, agent: AgentFactory) -> None:
    ada, bob, helper = person("Ada"), person("Bob"), agent("helper")

    ada.write_to(bob.peer_id, helper.peer_id)
    ada.say("meet at nine")
    at_helper = next(helper)
    at_helper.ack()
    ada.fate("meet at nine", "Delivered to all 2")
    helper.send_group([ada.peer_id, bob.peer_id], {"text": "fine with me"})
    ada.sees("fine with me")
    bob.open("Ada, helper")

    assert set(at_helper.to) == {bob.peer_id, helper.peer_id}
    expect(bob.messages).to_have_count(2)
    assert bob.shown() == ["meet at nine", "fine with me"]


def test_a_broadcast_is_heard_by_all_who_are_online(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, bob, helper = person("Ada"), person("Bob"), agent("helper")

    ada.open("Everyone")
    ada.say("is anybody here?")
    assert next(helper).text == "is anybody here?"
    helper.broadcast({"text": "I am"})
    ada.sees("I am")
    bob.open("Everyone")

    bob.sees("is anybody here?")
    bob.sees("I am")
    expect(ada.message("is anybody here?").locator(".fate")).to_contain_text("Sent to")


def test_presence_comes_and_goes(person: PersonFactory, relay: RelayInThread) -> None:
    ada = person("Ada")

    with agora.sync.Client(relay.url, agora.Identity.generate(), name="visitor") as visitor:
        expect(ada.row(visitor)).to_be_visible()

    expect(ada.row(visitor)).to_have_count(0)


# What becomes of messages


def test_a_message_to_who_is_away_is_stored_and_read_later(
    person: PersonFactory, relay: RelayInThread
) -> None:
    ada, sleeper = person("Ada"), agora.Identity.generate()
    with agora.sync.Client(relay.url, sleeper, name="sleeper") as awake:
        ada.open(awake)

    ada.say("read this later")
    ada.fate("read this later", "Stored for them at the relay")
    with agora.sync.Client(relay.url, sleeper, name="sleeper") as awake:
        message = next(awake)
        message.ack()
        assert message.text == "read this later"

        ada.fate("read this later", "Delivered and processed")


def test_what_an_agent_gives_up_is_said_so(person: PersonFactory, agent: AgentFactory) -> None:
    ada, lazy = person("Ada"), agent("lazy")

    ada.open(lazy)
    ada.say("do this")
    next(lazy).give_up()

    ada.fate("do this", "Delivered, but they gave it up")


def test_a_refused_message_says_why_and_is_sent_again(
    person: PersonFactory, relay: RelayInThread, complaints: Complaints
) -> None:
    complaints.expected += ["status of 404"]  # the browser's own word of a refusal
    ada, stranger = person("Ada"), agora.Identity.generate()

    ada.write_to(stranger.peer_id)
    ada.say("hello?")
    ada.fate("hello?", "Refused: they are not online and have no mailbox here")
    with agora.sync.Client(relay.url, stranger) as here:
        ada.message("hello?").get_by_role("button", name="Try again").click()
        message = next(here)
        message.ack()

        assert message.text == "hello?"
        ada.fate("hello?", "Delivered and processed")
        expect(ada.message("hello?").get_by_role("button", name="Try again")).to_be_hidden()


def test_mail_that_came_while_the_page_was_closed_is_there_after_a_reload(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, writer = person("Ada"), agent("writer")
    writer.send(ada.peer_id, {"text": "before"})
    ada.open(writer)
    ada.sees("before")
    url = ada.page.url
    ada.page.goto("about:blank")

    for number in range(3):
        writer.post(ada.peer_id, {"text": f"while away {number}"})
    ada.page.goto(url)
    ada.is_online()
    ada.open(writer)

    expect(ada.messages).to_have_count(4)
    assert ada.shown() == ["before", "while away 0", "while away 1", "while away 2"]


def test_a_message_whose_ack_was_lost_is_shown_once(
    person: PersonFactory, agent: AgentFactory, complaints: Complaints
) -> None:
    complaints.expected += ["ERR_FAILED"]  # the ack that is lost
    ada, writer = person("Ada"), agent("writer")
    ada.page.route("**/v1/ack", lambda route: route.abort())
    receipt = writer.post(ada.peer_id, {"text": "once"})
    ada.open(writer)
    ada.sees("once")

    ada.page.unroute("**/v1/ack")
    ada.page.reload()

    assert receipt.settled(timeout=20) in ("delivered", "stored")
    ada.open(writer)
    assert ada.shown() == ["once"]


def test_a_restart_of_the_relay_in_the_middle_loses_nothing(
    person: PersonFactory, relay: RelayInThread, agent: AgentFactory, complaints: Complaints
) -> None:
    complaints.expected += ["ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE", "status of 503"]
    complaints.expected += ["ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE", "status of 401"]
    ada, echo = person("Ada"), agent("echo")
    ada.open(echo)
    ada.say("first")
    next(echo).ack()
    ada.fate("first", "Delivered and processed")

    relay.stop()
    expect(ada.page.locator("#link")).to_contain_text("Relay away")
    expect(ada.page.locator("#subtitle")).to_contain_text("Relay away")
    expect(ada.page.locator("[data-online]")).to_have_count(0)
    ada.say("second")
    ada.fate("second", "Waits for the relay")
    relay.start()
    message = next(echo)
    message.reply({"text": "third"})
    message.ack()

    assert message.text == "second"
    ada.sees("third")
    ada.fate("second", "Delivered and processed")
    assert ada.shown() == ["first", "second", "third"]


def test_messages_that_are_written_in_one_go_keep_their_order(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, reader = person("Ada"), agent("reader")
    ada.open(reader)

    for number in range(12):
        ada.say(f"line {number}")
    came = []
    for _ in range(12):
        message = next(reader)
        came.append(message.text)
    message.ack()

    assert came == [f"line {number}" for number in range(12)]
    ada.fate("line 11", "Delivered and processed")


# Who is who


def test_who_is_ignored_is_not_heard(person: PersonFactory, agent: AgentFactory) -> None:
    ada, noise, friend = person("Ada"), agent("noise"), agent("friend")
    noise.send(ada.peer_id, {"text": "buy this"})
    ada.open(noise)
    ada.sees("buy this")

    ada.page.get_by_role("button", name="About this conversation").click()
    ada.page.get_by_label("Ignore").check()
    ada.page.keyboard.press("Escape")
    expect(ada.page.get_by_text("You ignore this peer")).to_be_visible()
    assert noise.send(ada.peer_id, {"text": "buy that"}).settled(timeout=10) == "delivered"
    friend.send(ada.peer_id, {"text": "done?"})

    ada.open(friend)
    ada.sees("done?")
    ada.open(noise)
    expect(ada.messages).to_have_count(1)
    assert ada.shown() == ["buy this"]


def test_a_name_of_ones_own_wins_over_the_one_that_is_claimed(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, helper = person("Ada"), agent("The Bank")
    helper.send(ada.peer_id, {"text": "hi"})
    ada.open(helper)
    expect(ada.sees("hi").locator(".key")).to_have_text(f"@{helper.peer_id[-8:]}")

    ada.page.get_by_role("button", name="About this conversation").click()
    expect(ada.page.get_by_text("They call themselves “The Bank”")).to_be_visible()
    ada.page.get_by_label("Your name for them").fill("my helper")
    ada.page.get_by_role("button", name="Save", exact=True).click()

    expect(ada.page.locator("#title")).to_have_text("my helper")
    expect(ada.row(helper)).to_contain_text("my helper")
    expect(ada.message("hi").locator(".key")).to_have_text("")


def test_hostile_names_and_payloads_are_only_text(
    person: PersonFactory, agent: AgentFactory
) -> None:
    name = "<img src=x onerror=alert(1)>{{7*7}}\u202e"
    ada, evil = person("Ada"), agent(name)
    name = name.removesuffix("\u202e")

    evil.send(ada.peer_id, {"text": HOSTILE})
    evil.send(ada.peer_id, {HOSTILE: [HOSTILE], "__proto__": {"polluted": True}})
    evil.send(ada.peer_id, {"text": "safe\u202eexe.txt\u200b"}, type=HOSTILE)
    ada.open(name)

    expect(ada.messages).to_have_count(3)
    expect(ada.page).to_have_title("Agora chat")
    assert ada.shown() == [HOSTILE, "safeexe.txt"]
    assert ada.page.locator("#app img, #app script, #app a[href^=java]").count() == 0
    assert ada.page.evaluate("({}).polluted") is None
    expect(ada.page.locator("#title")).to_have_text(name)


def test_what_is_not_genuine_is_not_shown_and_said_so(
    person: PersonFactory, agent: AgentFactory, page: Page
) -> None:
    ada = person("Ada")

    def forge(route: Any) -> None:
        envelope = {"id": "0" * 64, "type": "publish", "from": ada.peer_id, "to": [ada.peer_id]}
        envelope |= {"timestamp": 1, "payload": {"text": "forged"}, "signature": "0" * 128}
        frame = json.dumps({"type": "message", "from": ada.peer_id, "envelope": envelope})
        body = f"event: message\nid: 1\ndata: {frame}\n\n"
        route.fulfill(status=200, body=body, content_type="text/event-stream")

    ada.page.route("**/v1/events?*", forge, times=1)
    ada.page.reload()

    expect(ada.page.get_by_text("the signature does not fit")).to_be_visible()
    assert ada.page.get_by_text("forged").count() == 0


# The key


def test_the_key_is_saved_locked_and_used_by_the_command_line_and_elsewhere(
    person: PersonFactory, new_page: Callable[..., Page], relay: RelayInThread, tmp_path: Path
) -> None:
    ada = person("Ada", accept_downloads=True)
    file = tmp_path / "identity.json"

    members = ada.save_key(file)
    file.chmod(0o600)
    assert agora.Identity.load(file).peer_id == ada.peer_id
    assert members["identity"]["name"] == "Ada"
    is_open = """() => new Promise((resolve) => {
        const opening = indexedDB.open("agora-chat");
        opening.onsuccess = () => {
            const read = opening.result.transaction("self").objectStore("self").get("identity");
            read.onsuccess = () => resolve(read.result.handle.extractable);
        };
    })"""
    assert ada.page.evaluate(is_open) is False
    ada.open("Everyone")
    ada.say("signed with a locked key")
    expect(ada.message("signed with a locked key").locator(".fate")).to_contain_text("Sent")
    ada.page.reload()
    ada.is_online()
    expect(ada.page.locator("#unsaved")).to_be_hidden()

    elsewhere = new_page()
    elsewhere.goto(f"{relay.http_url}/chat")
    elsewhere.set_input_files("#file", file)
    expect(elsewhere.locator("#link")).to_have_text("Online")
    assert elsewhere.evaluate("document.getElementById('own-id').textContent") == ada.peer_id


def test_a_file_that_is_no_identity_is_refused_in_words(
    new_page: Callable[..., Page], relay: RelayInThread, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text('{"identity": {"publicKey": "1", "privateKey": "2"}}')
    page = new_page()
    page.goto(f"{relay.http_url}/chat")

    page.set_input_files("#file", tmp_path / "a.json")

    expect(page.get_by_text("The private key in the file is damaged.")).to_be_visible()


def test_another_key_of_the_relay_is_refused_until_it_is_trusted(
    person: PersonFactory, complaints: Complaints
) -> None:
    ada = person("Ada")
    ada.page.evaluate(_CHANGE_KNOWN_RELAY, "302a300506032b6570032100" + "12" * 32)

    ada.page.reload()
    expect(ada.page.get_by_text("The relay has another key")).to_be_visible()
    ada.page.get_by_role("button", name="Trust the new key").click()

    ada.is_online()


_CHANGE_KNOWN_RELAY = """(key) => new Promise((resolve) => {
    const opening = indexedDB.open("agora-chat");
    opening.onsuccess = () => {
        const change = opening.result.transaction("self", "readwrite");
        change.objectStore("self").put(key, "relay");
        change.objectStore("self").delete("session");
        change.oncomplete = () => { opening.result.close(); resolve(); };
    };
})"""


# Where it cannot be


def elsewhere(relay: RelayInThread, host: str) -> str:
    """Return the address of the chat by another name of this machine."""
    return f"{relay.http_url}/chat".replace("127.0.0.1", host)


def test_a_page_that_came_without_tls_from_elsewhere_says_what_to_do(
    page: Page, relay: RelayInThread, complaints: Complaints
) -> None:
    complaints.expected += ["The Cross-Origin-Opener-Policy header has been ignored"]
    page.goto(elsewhere(relay, "relay.test"))

    expect(page.get_by_role("heading", name="The chat needs a secure address")).to_be_visible()
    expect(page.locator("#secure-address")).to_contain_text("https://relay.test:")


def test_a_browser_without_ed25519_is_told_so(page: Page, relay: RelayInThread) -> None:
    page.add_init_script("crypto.subtle.generateKey = () => Promise.reject(new Error())")

    page.goto(f"{relay.http_url}/chat")

    expect(page.get_by_role("heading", name="This browser cannot make the key")).to_be_visible()


def test_a_relay_that_does_not_know_its_name_is_said_with_the_remedy(
    page: Page, relay: RelayInThread, complaints: Complaints
) -> None:
    complaints.expected += ["status of 401", "status of 403"]  # the browser's word of a refusal
    page.goto(elsewhere(relay, "agora.localhost"))

    page.get_by_role("button", name="Make my key and begin").click()

    expect(page.get_by_role("alert").first).to_contain_text("--public-name agora.localhost:")


def test_everything_is_erased_when_asked_for(person: PersonFactory) -> None:
    ada, bob = person("Ada"), person("Bob")
    expect(bob.row(ada)).to_be_visible()

    ada.page.get_by_role("button", name="You: name, key, identity").click()
    ada.page.get_by_role("button", name="Erase this identity").click()
    expect(ada.page.get_by_text("There is no copy of the key")).to_be_visible()
    ada.page.get_by_role("button", name="Erase", exact=True).click()

    expect(ada.page.get_by_role("heading", name="Take part")).to_be_visible()
    expect(bob.row(ada)).to_have_count(0)


# Tabs, keyboards, small windows


def test_two_tabs_show_and_write_the_same_and_the_second_takes_over(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, echo = person("Ada"), agent("echo")
    tab = Tab(ada.page.context.new_page(), ada)

    tab.open(echo)
    tab.say("from the second tab")
    next(echo).ack()
    tab.fate("from the second tab", "Delivered and processed")
    ada.open(echo)
    ada.sees("from the second tab")
    ada.page.close()
    tab.is_online()
    tab.say("the first is closed")

    assert next(echo).text == "the first is closed"


class Tab(Person):
    """Another tab of somebody who takes part already."""

    def __init__(self, page: Page, person: Person) -> None:
        self.page = page
        self.name, self.peer_id = person.name, person.peer_id
        page.goto(person.page.url)
        self.is_online()


def test_a_conversation_is_held_by_keyboard_alone(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada, echo = person("Ada"), agent("echo")
    press, type_ = ada.page.keyboard.press, ada.page.keyboard.type

    def focused() -> str:
        return str(ada.page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))

    for _ in range(20):
        press("Tab")
        if focused() == "New message":
            break
    press("Enter")
    type_(echo.peer_id)
    press("Enter")
    expect(ada.words).to_be_focused()
    type_("by keyboard")
    press("Enter")
    message = next(echo)
    message.reply({"text": "I see"})
    message.ack()
    ada.sees("I see")
    press("ArrowUp")
    expect(ada.messages.last).to_be_focused()
    press("r")
    expect(ada.words).to_be_focused()
    type_("good")
    press("Enter")

    assert next(echo).in_reply_to is not None
    press("Escape")
    press("Alt+ArrowUp")
    expect(ada.page.locator("#title")).to_have_text("Everyone")


def test_a_phone_shows_one_thing_after_the_other(
    person: PersonFactory, agent: AgentFactory
) -> None:
    ada = person("Ada", viewport={"width": 320, "height": 600}, has_touch=True)
    agent("a-name-that-is-rather-long-for-so-small-a-screen").send(
        ada.peer_id, {"text": "W" * 400, "table": [["x" * 300]]}
    )

    ada.page.locator("#conversations .row").nth(1).tap()
    expect(ada.messages).to_have_count(1)
    expect(ada.page.locator(".side")).to_be_hidden()
    assert ada.page.evaluate("document.documentElement.scrollWidth") == 320
    ada.page.get_by_role("button", name="Back to the conversations").tap()
    expect(ada.page.locator("#talk")).to_be_hidden()
    expect(ada.page.locator(".side")).to_be_visible()


def test_a_text_that_is_too_long_is_not_sent_and_not_lost(person: PersonFactory) -> None:
    ada = person("Ada")
    ada.open("Everyone")

    ada.words.fill("x" * 300_000)
    ada.words.press("Enter")

    expect(ada.page.get_by_text("Too long")).to_be_visible()
    assert len(ada.words.input_value()) == 300_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_light_and_dark(
    person: PersonFactory, agent: AgentFactory, scheme: str
) -> None:
    ada = person("Ada", color_scheme=scheme)
    echo = agent("echo")
    echo.send(ada.peer_id, {"text": "words", "n": 1})
    ada.open(echo)
    ada.say("an answer")
    ada.sees("words")

    assert hard_to_read(ada.page) == []
