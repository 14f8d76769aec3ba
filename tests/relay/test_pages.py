"""The pages as they are served: what a browser is told of them, and that nothing is missing."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import httpx2
import pytest

from agora.relay.http.pages import POLICY, assets_url, takes_gzip
from agora.testing import RelayInThread, relay_in_thread

ROOT = Path(__file__).parents[2] / "src" / "agora" / "relay" / "http" / "pages"
PAGES = {"/": "dashboard.html", "/chat": "chat.html"}
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.js"))
FILES = [*MODULES, *(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.css")), "icon.svg"]


@pytest.fixture(scope="module")
def relay() -> Iterator[RelayInThread]:
    with relay_in_thread(http_port=0) as running:
        yield running


@pytest.fixture(scope="module")
def browser(relay: RelayInThread) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=relay.http_url or "", verify=False, trust_env=False) as client:
        yield client


@pytest.mark.parametrize("path", [*PAGES, f"{assets_url()}/chat/main.js"])
def test_what_is_served_may_do_nothing_but_talk_to_this_relay(
    browser: httpx2.Client, path: str
) -> None:
    headers = browser.get(path).headers

    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_compared_at_each_use(browser: httpx2.Client, path: str) -> None:
    first = browser.get(path)
    again = browser.get(path, headers={"If-None-Match": first.headers["etag"]})
    changed = browser.get(path, headers={"If-None-Match": '"another"'})

    assert first.headers["cache-control"] == "no-cache"
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    assert (again.status_code, again.content) == (304, b"")
    assert changed.status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_served_as_it_is_and_kept_for_ever(browser: httpx2.Client, name: str) -> None:
    answer = browser.get(f"{assets_url()}/{name}", headers={"Accept-Encoding": "identity"})

    assert answer.content == (ROOT / name).read_bytes()
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].split(";")[0] in (
        "text/javascript",
        "text/css",
        "image/svg+xml",
    )


def test_a_file_is_compressed_for_who_wants_that(browser: httpx2.Client) -> None:
    path = f"{assets_url()}/style/base.css"
    with browser.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
        packed = b"".join(answer.iter_raw())

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["vary"] == "Accept-Encoding"
    assert gzip.decompress(packed) == (ROOT / "style/base.css").read_bytes()


@pytest.mark.parametrize(
    ("accepted", "is_taken"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity, not-gzip", False),
    ],
)
def test_nobody_gets_it_compressed_who_said_no(accepted: str, is_taken: bool) -> None:
    assert takes_gzip(accepted) == is_taken


@pytest.mark.parametrize(
    "path",
    [
        "/pages/0000000000000000/chat/main.js",
        f"{assets_url()}/nothing.js",
        f"{assets_url()}/chat.html",
        f"{assets_url()}/..%2f..%2fpages.py",
        f"{assets_url()}/%2e%2e/%2e%2e/pages.py",
    ],
)
def test_nothing_but_what_goes_with_the_pages_is_served(browser: httpx2.Client, path: str) -> None:
    assert browser.get(path).status_code == 404


# The files themselves


def imports_of(module: str) -> set[str]:
    """Return the modules that a module imports."""
    text = (ROOT / module).read_text()
    found = re.findall(r'^(?:import|\} from|import .* from) "(\..*)";', text, re.MULTILINE)
    folder = (ROOT / module).parent
    return {(folder / path).resolve().relative_to(ROOT).as_posix() for path in found}


def reached_from(module: str) -> set[str]:
    reached, waiting = set[str](), {module}
    while waiting:
        one = waiting.pop()
        reached.add(one)
        waiting |= imports_of(one) - reached
    return reached


@pytest.mark.parametrize("page", PAGES.values())
def test_a_page_names_all_its_modules_so_that_they_come_at_once(page: str) -> None:
    text = (ROOT / page).read_text()
    named = re.findall(r'rel="modulepreload" href="@assets@/(.*?)"', text)
    [entry] = re.findall(r'<script type="module" src="@assets@/(.*?)"></script>', text)

    assert named == sorted(reached_from(entry) - {entry})


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_what_is_there_and_is_used(module: str) -> None:
    entries = [name for name in MODULES if PurePosixPath(name).name == "main.js"]

    assert imports_of(module) <= set(MODULES)
    assert module in set.union(*map(reached_from, entries))


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("agora/")])
def test_what_is_said_of_the_protocol_knows_no_page(module: str) -> None:
    text = (ROOT / module).read_text()

    assert {name for name in imports_of(module) if not name.startswith("agora/")} == set()
    assert re.search(r"\b(document|window|localStorage|indexedDB|fetch)\b", text) is None


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.*")), ids=lambda path: path.name)
def test_nothing_stands_in_the_pages_that_the_policy_would_refuse(path: Path) -> None:
    text = path.read_text()

    assert re.search(r"(inner|outer|Adjacent)HTML|document\.write|\beval\(", text) is None
    assert re.search(r"https?://(?!www\.w3\.org/2000/svg|localhost|\$\{)", text) is None
    if path.suffix == ".html":
        assert re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?![^>]*src=)", text) is None
