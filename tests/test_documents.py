"""What the documents show is run here, and what they point to is there."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

import agora
from agora.cli.program import program
from agora.relay.config import SETTINGS, environment_names
from agora.testing import RelayInThread, relay_in_thread
from tests.client.hostile_proxy import Upgrades, hostile_proxy
from tests.client.test_client_http import relay_behind

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
TUTORIAL = ROOT / "docs/tutorial/first-agents.md"
OPERATE = ROOT / "docs/howto/operate.md"
NEVER_LOSE = ROOT / "docs/howto/never-lose-a-message.md"
PAGES_WITH_TESTS = [
    TUTORIAL,
    NEVER_LOSE,
    ROOT / "docs/howto/test-your-agent.md",
    ROOT / "docs/howto/who-may-write-to-me.md",
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:docs|deploy|examples|requirements|src|tests|tools)/[^`\s]*)`", page.read_text()
    )

    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_a_page_shows_can_be_typed(page: Path) -> None:
    for words in _agora_commands(page.read_text()):
        _parse(program, words)


def _agora_commands(text: str) -> list[list[str]]:
    """Return the arguments of every ``agora`` in the shell blocks of a page."""
    blocks = re.findall(r"```(?:console|bash)\n(.*?)```", text, re.DOTALL)
    lines = re.findall(r"^(?:\$ )?(.*agora .*)$", "\n".join(blocks), re.MULTILINE)
    commands = [re.sub(r"^(\w+=\S+ )+", "", line) for line in lines]
    split = [shlex.split(command, comments=True) for command in commands]
    return [words[1:] for words in split if words and Path(words[0]).name == "agora"]


def _parse(command: click.Command, words: list[str], parent: click.Context | None = None) -> None:
    """Read *words* as click does; it raises for a command or a flag that is not there."""
    context = click.Context(command, parent=parent, **command.context_settings)
    _, rest, _ = command.make_parser(context).parse_args(list(words))
    if isinstance(command, click.Group) and rest:
        inner = command.get_command(context, rest[0])
        assert inner is not None, f"{command.name} has no {rest[0]}"
        _parse(inner, rest[1:], context)
    else:
        assert rest == []


def test_every_variable_that_a_page_names_is_read() -> None:
    read = {name for declared in SETTINGS.values() for name in environment_names(declared)}
    others = {"AGORA_CONFIG", "AGORA_CONFIG_DIR", "AGORA_KNOWN_RELAYS", "AGORA_RELAY_URL"}
    others.add("AGORA_FALLBACK_URL")
    others.add("AGORA_COMPILE")  # the build reads it
    others.update(re.findall(r"\{\$(\w+)", (ROOT / "deploy/Caddyfile").read_text()))
    named = {name for page in PAGES for name in re.findall(r"\bAGORA_[A-Z_]+\b", page.read_text())}

    assert named - read - others == set()


def test_the_events_of_the_logs_are_those_of_the_page() -> None:
    page = OPERATE.read_text()
    table = page.split("| Event |")[1].split("\n\n")[0]
    told = {
        name for row in table.splitlines()[2:] for name in re.findall(r"`(.*?)`", row.split("|")[1])
    }

    text = "".join(path.read_text() for path in _sources_of_the_relays_log())
    pattern = r'(?:Note|_note|_log\.(?:info|warning|error|exception))\(\s*"([^"]+)"'
    assert told == {name.replace("%s", "mailbox") for name in re.findall(pattern, text)}


def _sources_of_the_relays_log() -> list[Path]:
    source = ROOT / "src/agora"
    commands = [
        source / "cli" / f"{name}.py" for name in ("relay", "open_files", "service_manager")
    ]
    shared = [source / "group_commit.py", *commands]
    folders = ("protocol", "mailbox", "relay")
    return [*(path for folder in folders for path in source.glob(f"{folder}/**/*.py")), *shared]


# Claims, each held by a test


HELD = [ROOT / "docs/explanation/delivery.md", ROOT / "docs/explanation/threat-model.md"]
"""Pages whose tables name, in their last column, the tests that hold what they say."""

_TEST = r"`([\w/]+\.py)::(\w+)`"


@pytest.mark.parametrize("page", [*HELD, ROOT / "SECURITY.md"], ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(_TEST, page.read_text())

    assert named
    assert [name for file, name in named if not _is_defined(name, ROOT / "tests" / file)] == []


def _is_defined(name: str, file: Path) -> bool:
    text = file.read_text() if file.exists() else ""
    return re.search(rf"^ *(?:async )?(?:def|class) {name}\b", text, re.MULTILINE) is not None


@pytest.mark.parametrize("page", HELD, ids=lambda page: page.name)
def test_every_row_of_a_table_of_claims_names_a_test(page: Path) -> None:
    tables = re.findall(r"^\|.*\| Held by \|\n\|[-|]+\|\n((?:\|.*\n)+)", page.read_text(), re.M)
    rows = [row for table in tables for row in table.splitlines()]

    assert rows
    assert [row for row in rows if not re.search(_TEST, row.split("|")[-2])] == []


# Blocks of Python, each a file


def _write_blocks(page: Path, folder: Path, url: str) -> None:
    """Write the files that *page* shows into *folder*, for the relay at *url*."""
    for name, text in re.findall(r"```python file=(\S+)\n(.*?)```", page.read_text(), re.DOTALL):
        (folder / name).write_text(text.replace("ws://localhost:9470", url))


@pytest.fixture
def tutorial(tmp_path: Path, agora_relay: RelayInThread) -> Path:
    """The tutorial's files in an empty folder, talking to the test's relay."""
    _write_blocks(TUTORIAL, tmp_path, agora_relay.url)
    return tmp_path


@pytest.fixture
def careful(tmp_path: Path, agora_relay: RelayInThread) -> Path:
    """The files of the page about never losing a message."""
    _write_blocks(NEVER_LOSE, tmp_path, agora_relay.url)
    return tmp_path


@pytest.fixture
def plain(tmp_path: Path, agora_relay: RelayInThread) -> Path:
    """The files of the page about life without asyncio."""
    _write_blocks(ROOT / "docs/howto/without-asyncio.md", tmp_path, agora_relay.url)
    return tmp_path


async def _start(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def _line(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode().strip()


async def test_the_tutorials_agents_ask_answer_and_wait_for_each_other(tutorial: Path) -> None:
    weather = await _start(tutorial, "weather.py")
    peer = (await _line(weather)).removeprefix("weather is ")
    ask = await _start(tutorial, "ask.py", peer)
    assert await _line(ask) == "the sky over Lisbon is clear"
    await ask.wait()

    await _interrupt(weather)
    leave_word = await _start(tutorial, "leave_word.py", peer)
    assert await _line(leave_word) == "the relay: stored"
    weather = await _start(tutorial, "weather.py")

    assert await _line(leave_word) == "the agent: processed"
    assert (await _line(weather)).removeprefix("weather is ") == peer
    weather.terminate()
    await asyncio.gather(weather.wait(), leave_word.wait())


@pytest.mark.parametrize("page", PAGES_WITH_TESTS, ids=lambda page: page.name)
async def test_the_tests_that_a_page_shows_pass(page: Path, tmp_path: Path) -> None:
    _write_blocks(page, tmp_path, "")
    run = await _start(tmp_path, "-m", "pytest", "-q", *_WITHOUT, ".")
    output, _ = await run.communicate()

    assert run.returncode == 0, output.decode()


_WITHOUT = [
    word
    for name in ("cacheprovider", "schemathesis", "faker", "randomly")
    for word in ("-p", f"no:{name}")
]
"""Plugins of this suite that no reader needs, and that take a second to import."""


@pytest.mark.parametrize(
    ("worker", "sender"), [("worker.py", "order.py"), ("plain_worker.py", "plain_order.py")]
)
async def test_what_is_ordered_is_packed_and_said_to_be(
    worker: str, sender: str, careful: Path
) -> None:
    packing = await _start(careful, worker)
    peer = (await _line(packing)).removeprefix("worker is ")
    output, _ = await (await _start(careful, sender, peer, "chair")).communicate()
    assert output.decode().splitlines() == [
        "the relay says delivered",
        "the worker says processed",
    ]
    assert await _line(packing) == "packed chair"

    await _interrupt(packing)
    order = await _start(careful, sender, peer, "table")
    packing = await _start(careful, worker)
    await _line(packing)
    assert await _line(packing) == "packed table"
    assert (await order.communicate())[0].decode().endswith("the worker says processed\n")
    await _interrupt(packing)


async def test_what_a_worker_gives_up_is_said_to_have_failed(careful: Path) -> None:
    packing = await _start(careful, "worker.py")
    peer = (await _line(packing)).removeprefix("worker is ")
    (careful / "order.py").write_text(
        (careful / "order.py").read_text().replace('{"item": item}', "item")
    )

    output, _ = await (await _start(careful, "order.py", peer, "chair")).communicate()

    assert output.decode().endswith("the worker says failed\n")
    await _interrupt(packing)


async def test_agents_without_asyncio_ask_answer_and_end(plain: Path) -> None:
    for agent, answer in {
        "weather.py": "the sky over Lisbon is clear",
        "echo.py": "KeyError",
    }.items():
        service = await _start(plain, agent)
        peer = (await _line(service)).split()[-1]
        ask = await _start(plain, "ask.py", peer)
        output, _ = await ask.communicate()
        assert answer in output.decode()

        await _interrupt(service)


async def test_the_cells_of_a_notebook_run_inside_its_loop(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plain)
    service = await _start(plain, "weather.py")
    cells = {"weather": (await _line(service)).split()[-1]}
    for number in (1, 2, 3):
        exec((plain / f"cell_{number}.py").read_text(), cells)

    assert cells["reply"].payload["sky"] == "clear"  # type: ignore[attr-defined]
    service.terminate()
    await service.wait()


async def test_agents_talk_by_http_as_shown(tmp_path: Path) -> None:
    _write_blocks(ROOT / "docs/howto/http.md", tmp_path, "")
    with relay_in_thread(http_port=0) as relay:
        echo = await _start(tmp_path, "echo.py", f"{relay.http_url}")
        peer, transport = (await _line(echo)).removeprefix("echo is ").split(" by ")
        async with agora.Client(relay.url, agora.Identity.generate()) as me:
            reply = await me.request(peer, {"text": "hello"}, timeout=10)
        await _interrupt(echo)

    assert (transport, reply.payload) == ("http", {"text": "you said: hello"})


async def test_a_client_that_falls_back_says_so_as_shown(tmp_path: Path) -> None:
    _write_blocks(ROOT / "docs/howto/http.md", tmp_path, "")
    with hostile_proxy() as proxy, relay_behind(proxy):
        proxy.upgrades = Upgrades.REFUSE
        watch = await _start(tmp_path, "watch_way.py", proxy.url, proxy.http_url)

        said = await _line(watch)
        await watch.wait()

    assert said.startswith("by http because")
    assert "403" in said


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs OpenSSL")
async def test_an_authority_of_ones_own_is_made_and_trusted_as_shown(tmp_path: Path) -> None:
    page = ROOT / "docs/howto/tls.md"
    _write_blocks(page, tmp_path, "")
    commands = re.findall(r"^\$ (openssl (?:.*\\\n)*.*)$", page.read_text(), re.MULTILINE)
    for command in commands:
        words = shlex.split(command.replace("\\\n", " "))
        subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)  # noqa: ASYNC221

    files = {"tls_cert": tmp_path / "relay.pem", "tls_key": tmp_path / "relay.key"}
    with relay_in_thread(**files) as relay:
        connect = await _start(tmp_path, "connect.py", relay.url)
        assert await _line(connect) == "connected"
        await connect.wait()


async def test_a_relay_is_known_again_as_shown(tmp_path: Path, agora_relay: RelayInThread) -> None:
    _write_blocks(ROOT / "docs/howto/tls.md", tmp_path, "")
    remember = await _start(tmp_path, "remember.py", agora_relay.url)
    said = await _line(remember)
    await remember.wait()

    assert said == f"the relay is {agora_relay.relay.peer_id}"
    assert agora_relay.relay.peer_id in (tmp_path / "known-relays.json").read_text()
    agora_relay.stop()
    with relay_in_thread(port=urlsplit(agora_relay.url).port) as other:
        remember = await _start(tmp_path, "remember.py", other.url)
        output, _ = await remember.communicate()
    assert "RelayChangedError" in output.decode()


async def _line_with(text: str, process: asyncio.subprocess.Process) -> None:
    """Read on until a line has *text* in it."""
    heard: list[str] = []
    while text not in (line := await _line(process)):
        assert line, f"it ended before {text!r}: {heard}"
        heard.append(line)


async def _interrupt(process: asyncio.subprocess.Process) -> None:
    """Press Ctrl-C; the process ends well, and without a traceback."""
    process.send_signal(signal.SIGINT)
    output, _ = await process.communicate()
    assert (process.returncode, b"Traceback" in output) == (0, False), output.decode()


async def test_two_identities_talk_as_the_readme_says(
    tmp_path: Path, agora_relay: RelayInThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGORA_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("AGORA_RELAY_URL", agora_relay.url)
    relay, init_bob, listen, *others = _agora_commands((ROOT / "README.md").read_text())
    assert relay == ["relay"]
    bob = await _start(tmp_path, "-m", "agora", *init_bob)
    peer = (await bob.communicate())[0].decode().split()[-1]
    listening = await _start(tmp_path, "-m", "agora", *listen)
    await _line_with("= connected", listening)

    for words in others:
        run = await _start(tmp_path, "-m", "agora", *[peer if w == "PEER_ID" else w for w in words])
        output, _ = await run.communicate()
        assert run.returncode == 0, output.decode()

    await _line_with("lunch?", listening)
    await _interrupt(listening)


async def test_the_agent_of_the_readme_echoes(tmp_path: Path, agora_relay: RelayInThread) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    text = block.replace("ws://localhost:9470", agora_relay.url)
    (tmp_path / "echo.py").write_text(
        text.replace("print(me.peer_id)", "print(me.peer_id, flush=True)")
    )
    echo = await _start(tmp_path, "echo.py")
    peer = await _line(echo)

    async with agora.Client(agora_relay.url, agora.Identity.generate()) as me:
        reply = await me.request(peer, {"text": "hello"}, timeout=10)

    assert reply.payload == {"text": "you said: hello"}
    await _interrupt(echo)


# The drill


@pytest.mark.skipif(sys.platform == "win32", reason="systemd is not there")
async def test_the_drill_brings_back_what_a_relay_has_kept(tmp_path: Path) -> None:
    live, safe = tmp_path / "live", tmp_path / "safe"
    safe.mkdir()
    text = OPERATE.read_text().split("### The drill")[1]
    [block, *_] = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    block = block.replace("/var/lib/agora", str(live)).replace("/var/backups/agora", str(safe))
    commands = re.findall(r"^\$ (.*)$", block, re.MULTILINE)
    alice, bob = agora.Identity.generate(), agora.Identity.generate()
    relay, url = await _start_relay(live)
    async with agora.Client(url, bob):
        pass  # has proven its key, and so has a mailbox
    async with agora.Client(url, alice) as sender:
        receipts = [await sender.send(bob.peer_id, number) for number in range(3)]
        known = sender.relay

    for command in commands:
        match command.split():
            case ["systemctl", "stop", *_]:
                relay.terminate()
                await relay.communicate()
            case ["systemctl", "start", *_]:
                relay, url = await _start_relay(live)
            case ["agora", *words]:
                words = [*words, "--data-dir", str(live)]
                output, _ = await (await _start(tmp_path, "-m", "agora", *words)).communicate()
            case words:
                subprocess.run(words, check=True)  # noqa: ASYNC221

    async with agora.Client(url, bob) as recipient:
        received = [(await anext(recipient)).payload for _ in range(3)]
        assert recipient.relay == known
    relay.terminate()
    await relay.communicate()
    assert [receipt.status for receipt in receipts] == ["stored"] * 3
    assert received == [0, 1, 2]
    assert b"1 mailbox: 3 messages" in output  # which `list` said last


async def _start_relay(folder: Path) -> tuple[asyncio.subprocess.Process, str]:
    words = ["relay", "--log-json", "--port", "0", "--data-dir", str(folder)]
    relay = await _start(folder.parent, "-m", "agora", *words)
    while (event := json.loads(await _line(relay)))["event"] != "listening":
        pass
    return relay, event["url"]
