"""
The house stands: a module imports only from floors below its own, or from its own package.

The table is that of docs/explanation/architecture.md. Plain modules beside each
other on a floor (``limits`` and ``errors``, ``sealing`` and ``relay``) are its
words and may be shared; two packages of one floor never know each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "agora"

FLOORS = {
    0: "build errors codes limits settings",
    1: "keys canonical ecmascript plain_json",
    2: "envelope references sealed shape text",
    3: "frames/",
    4: "protocol/",
    5: "mailbox/ files group_commit known_relays",
    6: "identity otel sealing verifying relay/ client/ sync",
    7: "bench/",
    8: "cli/ testing/",
}
FLOOR_OF = {unit: floor for floor, units in FLOORS.items() for unit in units.split()}
IMPURE = {"asyncio", "socket", "threading", "time", "os", "pathlib", "sqlite3", "random", "logging"}
FRONT_DOORS = {SOURCE / "__init__.py", SOURCE / "__main__.py"}
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path not in FRONT_DOORS)


def unit_of(path: Path) -> str:
    """Return what the table calls a file: its module, or the package that it is in."""
    first, *rest = path.relative_to(SOURCE).parts
    return f"{first}/" if rest else first.removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that is imported, also inside functions and for types alone."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield f"{node.module}"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def units_imported_by(path: Path) -> set[str]:
    names = [name.split(".")[1] for name in imports_of(path) if name.startswith("agora.")]
    return {unit for name in names for unit in (name, f"{name}/") if unit in FLOOR_OF}


def test_every_module_has_its_floor() -> None:
    assert {unit_of(path) for path in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_from_below(path: Path) -> None:
    unit = unit_of(path)
    others = units_imported_by(path) - {unit}

    above = {other for other in others if FLOOR_OF[other] > FLOOR_OF[unit]}
    beside = {
        other
        for other in others
        if FLOOR_OF[other] == FLOOR_OF[unit] and other.endswith("/") and unit.endswith("/")
    }

    assert (above, beside) == (set(), set())


@pytest.mark.parametrize(("side", "other"), [("relay", "client"), ("client", "relay")])
def test_the_two_sides_of_the_protocol_never_know_each_other(side: str, other: str) -> None:
    imported = {name for path in SOURCE.glob(f"protocol/{side}/*.py") for name in imports_of(path)}

    assert imported
    assert {name for name in imported if name.startswith(f"agora.protocol.{other}")} == set()


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if FLOOR_OF[unit_of(path)] <= 4],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_the_core_is_pure(path: Path) -> None:
    assert {name.split(".")[0] for name in imports_of(path)} & IMPURE == set()


@pytest.mark.parametrize("name", ["framing", "outlet", "turns", "upgrade"])
def test_what_a_connection_decides_is_pure(name: str) -> None:
    path = SOURCE / "relay" / f"{name}.py"

    assert {name.split(".")[0] for name in imports_of(path)} & IMPURE == set()


def test_the_table_is_that_of_the_documents() -> None:
    page = (SOURCE.parents[1] / "docs" / "explanation" / "architecture.md").read_text()

    for floor, units in FLOORS.items():
        [row] = [line for line in page.splitlines() if line.startswith(f"| {floor} |")]
        assert row.split("|")[3].replace("`", "").split() == units.split()
