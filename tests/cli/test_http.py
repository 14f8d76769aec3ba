"""The command line at a relay that is reached by HTTP: the same commands, the same words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agora import sync
from agora.testing import RelayInThread, relay_in_thread
from tests.cli.conftest import BOB, Shell
from tests.client.hostile_proxy import Upgrades, hostile_proxy
from tests.client.test_client_http import relay_behind


@pytest.fixture
def relay() -> Iterator[RelayInThread]:
    """A relay with both doors open."""
    with relay_in_thread(http_port=0) as running:
        yield running


def test_what_is_sent_by_http_is_heard_by_http(shell: Shell, relay: RelayInThread) -> None:
    url = f"{relay.http_url}"
    with shell.start("--profile", "bob", "listen", "--relay", url, "--count", "1") as listening:
        assert listening.stderr is not None
        while "= connected" not in (line := listening.stderr.readline()):
            assert line, "it ended"

        sent = shell.run("send", "--relay", url, "bob", "hello", "--json")
        out, _ = listening.communicate(timeout=30)

    assert (sent.code, sent.last["status"]) == (0, "delivered")
    assert "hello" in out
    assert listening.returncode == 0


def test_who_is_there_is_told_by_http(shell: Shell, relay: RelayInThread) -> None:
    with sync.Client(relay.url, BOB, fallback=False):
        told = shell.run("peers", "--relay", f"{relay.http_url}", "--json")

    assert told.code == 0
    assert [one["online"] for one in told.objects if one["publicKey"] == BOB.peer_id] == [True]


def test_a_request_is_answered_by_http(shell: Shell, relay: RelayInThread) -> None:
    with sync.Client(relay.url, BOB, fallback=False) as bob:
        asked = shell.start("request", "--relay", f"{relay.http_url}", "bob", "how are you?")
        with asked as asking:
            next(bob).reply({"text": "fine"})
            out, err = asking.communicate(timeout=30)

    assert "fine" in out, err


def test_what_waits_in_the_outbox_goes_by_http(shell: Shell, relay: RelayInThread) -> None:
    url = f"{relay.http_url}"
    waiting = shell.run("send", "--relay", url, "bob", "later")
    with (
        sync.Client(url, BOB) as bob,
        shell.start("listen", "--relay", url, "--timeout", "20") as listening,
    ):
        assert next(bob).payload == {"text": "later"}
        listening.terminate()

    assert waiting.code == 8


def test_listen_says_that_it_goes_by_http_and_why(shell: Shell) -> None:
    with hostile_proxy() as proxy, relay_behind(proxy):
        proxy.upgrades = Upgrades.REFUSE
        ways = ("--relay", proxy.url, "--fallback", proxy.http_url)
        run = shell.run("listen", *ways, "--timeout", "1", "--json")

    (said,) = [one for one in run.objects if one.get("event") == "transport"]
    assert said["transport"] == "http"
    assert "403" in said["message"]
