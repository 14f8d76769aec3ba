"""What the documents show is run here, and what they point to is there."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

import agora
from agora.testing import RelayInThread

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")])
TUTORIAL = ROOT / "docs/tutorial/first-agents.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    local = [link for link in links if "://" not in link]

    assert [link for link in local if not (page.parent / link).exists()] == []


@pytest.fixture
def tutorial(tmp_path: Path, agora_relay: RelayInThread) -> Path:
    """The tutorial's files in an empty folder, talking to the test's relay."""
    blocks = re.findall(r"```python file=(\S+)\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)
    for name, text in blocks:
        (tmp_path / name).write_text(text.replace("ws://localhost:9470", agora_relay.url))
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

    weather.terminate()
    await weather.wait()
    leave_word = await _start(tutorial, "leave_word.py", peer)
    assert await _line(leave_word) == "at first: queued unknown_recipient"
    weather = await _start(tutorial, "weather.py")

    assert await _line(leave_word) == "at last: sent"
    assert (await _line(weather)).removeprefix("weather is ") == peer
    weather.terminate()
    await asyncio.gather(weather.wait(), leave_word.wait())


async def test_the_tutorials_test_passes(tutorial: Path) -> None:
    run = await _start(tutorial, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_weather.py")
    output, _ = await run.communicate()

    assert run.returncode == 0, output.decode()


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
    echo.terminate()
    await echo.wait()
