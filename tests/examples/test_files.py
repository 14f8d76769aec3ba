"""What the folder of examples promises before anything runs."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from .script import EXAMPLES, NAMES

OURS = "agora"


def source(name: str) -> str:
    return (EXAMPLES / f"{name}.py").read_text()


def packages(name: str) -> set[str]:
    """Return the packages that an example imports from outside the standard library."""
    found = set()
    for node in ast.walk(ast.parse(source(name))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            found.add(node.module)
    return {name.partition(".")[0] for name in found} - sys.stdlib_module_names


def requirements() -> set[str]:
    text = re.sub(r"#.*", "", (EXAMPLES / "requirements.txt").read_text())
    return set(text.split())


@pytest.mark.parametrize("name", NAMES)
def test_the_url_of_the_relay_stands_alone_on_a_line_of_each_example(name: str) -> None:
    assert re.findall(r"^RELAY_URL\b.*$", source(name), re.M) == [
        'RELAY_URL = "ws://localhost:9470"'
    ]


def test_the_20_line_example_has_at_most_20_lines_of_any_kind() -> None:
    assert len(source("agora_20_line").splitlines()) <= 20


def test_the_20_line_example_needs_two_packages_and_not_ours() -> None:
    assert packages("agora_20_line") == {"websockets", "cryptography"}


def test_what_the_examples_import_is_required() -> None:
    imported = set().union(*(packages(name) for name in NAMES)) - {OURS}

    assert imported == {re.split(r"\W", line)[0] for line in requirements() if line[0].isalpha()}


def test_the_requirements_point_to_this_clone() -> None:
    [clone] = [line for line in requirements() if not line[0].isalpha()]
    path, extras = re.fullmatch(r"([./]+)\[(\w+)\]", clone).groups()  # type: ignore[union-attr]

    assert (EXAMPLES / path / "pyproject.toml").is_file()
    assert extras == "relay"


def test_the_readme_names_every_file_and_only_files_that_are_there() -> None:
    readme = (EXAMPLES / "README.md").read_text()

    mentioned = set(re.findall(r"\b\w+\.(?:py|txt)\b", readme))
    assert mentioned == {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".txt")}
    linked = re.findall(r"\]\(([^)#]+)", readme)
    assert [name for name in linked if not (EXAMPLES / name).exists()] == []
