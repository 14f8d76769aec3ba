"""How this copy of Agora was built: its core is plain Python, or the same sources compiled to C."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["is_compiled"]


def is_compiled() -> bool:
    """Tell whether the core runs compiled; all of it does, or nothing."""
    found = find_spec("agora.plain_json")  # any of the modules in pyproject.toml
    return found is not None and not str(found.origin).endswith(".py")
