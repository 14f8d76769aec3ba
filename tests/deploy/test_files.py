"""What is in deploy/: each file is what its reader takes, and says what the relay does."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]  # it has no types

from agora.cli.program import program
from agora.cli.relay import relay as relay_command
from agora.relay.config import (
    SETTINGS,
    RelayConfig,
    environment_names,
    from_environment,
    unknown_names,
)
from agora.testing import relay_in_thread

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
UNITS = ["agora.service", "agora.socket"]

PORT = RelayConfig().port


def tool(name: str) -> str:
    """Return where a tool is, beside Python or on the path; skip where it is not."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def read_command(words: list[str]) -> dict[str, Any]:
    """Read the arguments of ``agora relay`` as it does; it raises for what it does not know."""
    assert words[0] == "relay"
    assert program.get_command(None, "relay") is relay_command  # type: ignore[arg-type]
    context = relay_command.make_context("relay", list(words[1:]))
    return {name: value for name, value in context.params.items() if value not in (None, ())}


# The image


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    ran = subprocess.run([tool("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True)

    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def dockerfile(instruction: str) -> list[str]:
    """Return what stands behind each *instruction*, on one line."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    return re.findall(rf"^{instruction} (.*)$", text, re.MULTILINE)


def test_the_image_is_made_of_files_that_are_there_and_sent() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source
        for line in dockerfile("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }

    assert copied == sent
    assert [path for path in copied if not (ROOT / path).exists()] == []


def test_the_image_runs_as_nobody_else_on_the_ports_of_the_relay() -> None:
    stages = dockerfile("FROM")

    assert dockerfile("USER") == ["10001:10001"]
    assert dockerfile("EXPOSE") == [f"{PORT} {PORT + 1}"]
    assert dockerfile("STOPSIGNAL") == ["SIGTERM"]
    assert all(re.fullmatch(r"python:[\d.]+-slim-\w+( AS build)?", stage) for stage in stages)


def test_the_image_sets_what_the_relay_reads() -> None:
    variables = dict(pair.split("=", 1) for pair in shlex.split(" ".join(dockerfile("ENV"))))
    ours = {name: value for name, value in variables.items() if name.startswith("AGORA_")}

    assert unknown_names(ours) == {}
    assert from_environment(ours) == {
        "host": "0.0.0.0",
        "data_dir": Path(dockerfile("VOLUME")[0]),
        "log_json": True,
    }


def test_the_image_starts_the_relay_without_a_shell() -> None:
    entry, command = (yaml.safe_load(dockerfile(name)[0]) for name in ("ENTRYPOINT", "CMD"))

    assert (entry, read_command(command)) == (["agora"], {})


def test_the_image_is_healthy_while_a_relay_serves_and_no_longer() -> None:
    [check] = dockerfile("HEALTHCHECK")
    words = yaml.safe_load(check.split("CMD ")[1])
    with relay_in_thread(http_port=0) as running:
        port = urlsplit(running.relay.http_url or "").port
        code = words[-1].replace(f":{PORT + 1}/", f":{port}/")
        well = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    ill = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)

    assert words[:2] == ["python", "-c"]
    assert (well.returncode, ill.returncode) == (0, 1)


# Compose


def test_the_compose_file_is_made_of_files_that_are_there() -> None:
    services = COMPOSE["services"]
    build = services["relay"]["build"]
    mounts = [mount for service in services.values() for mount in service["volumes"]]
    folders = [mount.split(":")[0] for mount in mounts]

    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert {name for name in folders if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert [name for name in folders if name[0] == "." and not (DEPLOY / name).exists()] == []


def test_the_compose_file_gives_the_relay_what_it_reads_and_caddy_what_the_caddyfile_asks_for() -> (
    None
):
    relay, caddy = (COMPOSE["services"][name] for name in ("relay", "caddy"))
    asked = set(re.findall(r"\{\$(\w+)", (DEPLOY / "Caddyfile").read_text()))

    assert unknown_names(relay["environment"]) == {}
    assert read_command(relay["command"]) == {"env_file": Path("/etc/agora/relay.env")}
    assert set(caddy["environment"]) == asked
    assert caddy["environment"]["AGORA_WEBSOCKET"] == f"relay:{PORT}"
    assert caddy["environment"]["AGORA_HTTP"] == f"relay:{PORT + 1}"


def test_containers_have_no_more_rights_than_they_need_and_bounded_logs() -> None:
    for service in COMPOSE["services"].values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}
        assert ":" in service.get("image", "") or "build" in service


def test_a_stop_has_time_for_the_drain() -> None:
    [grace] = re.findall(r"(\d+)s", COMPOSE["services"]["relay"]["stop_grace_period"])
    unit = (DEPLOY / "agora.service").read_text()
    [timeout] = re.findall(r"TimeoutStopSec=(\d+)", unit)

    assert min(int(grace), int(timeout)) >= RelayConfig().drain_timeout + 30


# Settings


def test_the_settings_file_holds_settings_also_those_in_comments() -> None:
    text = (DEPLOY / "settings" / "relay.env").read_text()
    named = dict(re.findall(r"^#?(AGORA_\w+)=(.*)$", text, re.MULTILINE))

    assert named
    assert unknown_names(named) == {}
    assert len(from_environment(named)) == len(named)


def test_no_file_names_where_packages_come_from() -> None:
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]

    assert [text for text in texts if re.search(r"index-url|/simple|find-links", text)] == []


# systemd


@pytest.fixture
def units(tmp_path: Path) -> list[str]:
    """The units, with an ``agora`` that is there."""
    for name in UNITS:
        text = (
            (DEPLOY / name).read_text().replace("/opt/agora/bin/agora", shutil.which("true") or "")
        )
        (tmp_path / name).write_text(text)
    return [str(tmp_path / name) for name in UNITS]


def test_systemd_understands_the_units(units: list[str]) -> None:
    ran = subprocess.run(
        [tool("systemd-analyze"), "verify", *units], capture_output=True, text=True
    )

    assert (ran.returncode, ran.stderr) == (0, "")


def test_systemd_finds_little_that_the_service_could_do(units: list[str]) -> None:
    words = ["security", "--offline=true", "--threshold=15", "--no-pager", units[0]]
    ran = subprocess.run([tool("systemd-analyze"), *words], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout  # an exposure of more than 1.5 in 10


def test_the_service_runs_a_relay_that_tells_systemd_and_reads_its_file_again() -> None:
    unit = (DEPLOY / "agora.service").read_text()
    [command] = re.findall(r"^ExecStart=\S+/agora (.*)$", unit, re.MULTILINE)

    given = read_command(shlex.split(command.replace("%S", "/var/lib").replace("%E", "/etc")))

    assert given == {
        "data_dir": Path("/var/lib/agora"),
        "env_file": Path("/etc/agora/relay.env"),
        "log_json": True,
    }
    assert "Type=notify" in unit
    assert "ExecReload=/bin/kill -HUP $MAINPID" in unit


def test_the_socket_is_that_of_the_relays_port() -> None:
    unit = (DEPLOY / "agora.socket").read_text()

    assert re.findall(r"^ListenStream=(.*)$", unit, re.MULTILINE) == [str(PORT)]


def test_every_setting_that_a_file_names_is_one() -> None:
    names = {name for declared in SETTINGS.values() for name in environment_names(declared)}
    of_caddy = {"AGORA_SITE", "AGORA_WEBSOCKET", "AGORA_HTTP", "AGORA_OPERATORS", "AGORA_COMPILE"}
    texts = [path.read_text() for path in DEPLOY.rglob("*") if path.is_file()]
    named = {name for text in texts for name in re.findall(r"\bAGORA_[A-Z_]+\b", text)}

    assert named - names - of_caddy == set()
