"""The package as a user gets it: a wheel in an empty environment, plain or compiled."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _run(
    *command: str | Path, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": "", **environment},  # the wheel, not this tree
        capture_output=True,
        text=True,
        timeout=900,
    )


def _build_wheel(folder: Path, **environment: str) -> tuple[Path, str]:
    """Build a wheel; return it with what was said."""
    command = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    built = _run(*command, folder=ROOT, **environment)
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("agora_relay-*.whl")
    return wheel, built.stderr


@pytest.fixture(scope="module")
def client_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel and what a client needs, no more."""
    folder = tmp_path_factory.mktemp("wheel")
    wheel, _ = _build_wheel(folder, AGORA_COMPILE="never")
    venv.create(folder / "empty")
    python = folder / "empty" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    locked = ROOT / "requirements" / "client.txt"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    with_hashes = _run(*pip, "--require-hashes", "--requirement", locked, folder=folder)
    assert with_hashes.returncode == 0, with_hashes.stderr
    itself = _run(*pip, "--no-deps", wheel, folder=folder)
    assert itself.returncode == 0, itself.stderr
    return python


@pytest.mark.timeout(300)
def test_a_client_seals_and_opens_without_the_relays_dependencies(
    client_python: Path, tmp_path: Path
) -> None:
    script = (
        "import agora, importlib.util as u; me = agora.Identity.generate(); "
        "e = agora.seal(me, type='publish', payload={'text': 'hi'}, to=me.peer_id); "
        "print(agora.open_envelope(e.to_json()).payload['text'], "
        "[u.find_spec(n) for n in ('uvloop', 'platformdirs', 'dotenv', 'pytest')])"
    )

    ran = _run(client_python, "-c", script, folder=tmp_path)

    assert ran.stdout.strip() == "hi [None, None, None, None]", ran.stderr


@pytest.mark.timeout(300)
def test_the_command_of_the_wheel_says_its_version_and_which_extra_a_relay_needs(
    client_python: Path, tmp_path: Path
) -> None:
    version = _run(client_python, "-m", "agora", "--version", folder=tmp_path)
    relay = _run(client_python, "-m", "agora", "relay", folder=tmp_path)

    assert "0.1.0" in version.stdout
    assert relay.returncode != 0
    assert "agora-relay[relay]" in relay.stderr
    assert "Traceback" not in relay.stderr


@pytest.mark.timeout(300)
def test_the_wheel_is_typed_and_carries_its_licence(client_python: Path, tmp_path: Path) -> None:
    script = (
        "import importlib.metadata as m; "
        "print(*sorted(str(f).rpartition('/')[2] for f in m.files('agora-relay') "
        "if str(f).endswith(('py.typed', 'LICENSE'))))"
    )

    assert _run(client_python, "-c", script, folder=tmp_path).stdout.split() == [
        "LICENSE",
        "py.typed",
    ]


@pytest.mark.timeout(300)
def test_the_wheel_carries_the_pages(client_python: Path, tmp_path: Path) -> None:
    pages = ROOT / "src/agora/relay/http/pages"
    script = (
        "import importlib.resources as r, pathlib as p; "
        "top = p.Path(str(r.files('agora'))) / 'relay/http/pages'; "
        "print(*sorted(str(f.relative_to(top)) for f in top.rglob('*.*')))"
    )

    packed = _run(client_python, "-c", script, folder=tmp_path).stdout.split()

    assert packed == sorted(str(path.relative_to(pages)) for path in pages.rglob("*.*"))


@pytest.mark.long  # make compiles the same modules by the same hook before any test runs
@pytest.mark.timeout(1_000)
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_compiled_wheel_is_for_one_platform_and_runs_compiled(tmp_path: Path) -> None:
    # As pip builds it: in an environment that has what a client needs, and no extra.
    command = (sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", tmp_path, ROOT)
    built = _run(*command, folder=tmp_path, AGORA_COMPILE="always")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("agora_relay-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    script = "from agora.build import is_compiled; import agora.relay; print(is_compiled())"

    ran = _run(sys.executable, "-c", script, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))

    assert not wheel.name.endswith("-none-any.whl")
    assert ran.stdout.strip() == "True", ran.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="CC names the compiler elsewhere")
def test_without_a_compiler_the_wheel_is_plain_python_and_says_so(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "cc")

    wheel, said = _build_wheel(tmp_path, AGORA_COMPILE="auto", CC=nowhere)

    assert wheel.name.endswith("-none-any.whl")
    assert "the core stays plain Python" in said


def test_a_plain_wheel_carries_nothing_compiled(client_python: Path, tmp_path: Path) -> None:
    script = "from agora.build import is_compiled; print(is_compiled())"

    assert _run(client_python, "-c", script, folder=tmp_path).stdout.strip() == "False"
