"""What is compiled: the same everywhere, and never something else than what is read."""

from __future__ import annotations

import ast
from pathlib import Path

import hatch_build

COMPILED = hatch_build.compiled_modules()
MODULES = sorted(hatch_build.SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """Return the name by which a module is imported."""
    return ".".join(path.relative_to(hatch_build.SOURCE).with_suffix("").parts)


def constants_of(path: Path) -> set[str]:
    """Return the names that a module declares to be ``Final``."""
    return {
        node.target.id
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        if "Final" in ast.unparse(node.annotation)
    }


def imports_of(path: Path) -> set[tuple[str, str]]:
    """Return what a module imports: module and name."""
    return {
        (str(node.module), alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_what_is_to_be_compiled_is_there() -> None:
    assert len(COMPILED) > 10
    assert set(COMPILED) < set(MODULES)


def test_constants_that_are_compiled_in_are_watched_for_changes() -> None:
    watched = hatch_build.watched_sources()
    others = {name_of(path): constants_of(path) for path in MODULES if path not in watched}

    unseen = {
        (name_of(path), name)
        for path in COMPILED
        for module, name in imports_of(path)
        if name in others.get(module, ())
    }

    assert unseen == set()
