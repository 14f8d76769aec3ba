"""
Compile the core to C: the same sources, read by mypyc, for whoever has a C compiler.

Hatchling runs this for a wheel, the Makefile for the working tree (``python
hatch_build.py``). Which modules, and why those, stands in pyproject.toml;
docs/explanation/decisions/0019-compiled-core.md has what it gains.

The rule kept here: nobody needs a compiler. Where there is none, or it fails, the
core stays plain Python, and one line says so. ``AGORA_COMPILE`` decides otherwise:
``never`` does not try, ``always`` fails where it does not work.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCE = ROOT / "src"


class CompiledCore(BuildHookInterface[Any]):
    """Puts the compiled core into a wheel, which then is for one platform."""

    def dependencies(self) -> list[str]:
        """Name what compiles, where that may be tried."""
        return [] if _wish() == "never" else list(self.config["compilers"])

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and tell hatchling what to pack."""
        if version == "editable":
            return  # its sources will be edited: the Makefile compiles those, and knows when
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        if compiled := compile_core(_modules(self.config), folder):
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            inside = {str(path): str(path.relative_to(folder)) for path in compiled}
            build_data["force_include"].update(inside)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled: it is in the wheel."""
        if version != "editable":
            self._folder.cleanup()


# Compiling


def compile_core(modules: Iterable[Path], folder: Path) -> list[Path]:
    """Compile *modules* into *folder*; return the files, none where it cannot be done."""
    if _wish() == "never":
        return []
    print("compiling the core, half a minute (AGORA_COMPILE=never: not)", file=sys.stderr)
    try:
        _compile(modules, folder)
    except (Exception, SystemExit) as error:  # mypy exits over what it does not understand
        if _wish() == "always":
            raise
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        print(f"the core stays plain Python, which is slower: {reason}", file=sys.stderr)
        return []
    return _compiled(folder)


def _compile(modules: Iterable[Path], folder: Path) -> None:
    # Imported here, as a pure wheel needs none of them.
    from mypyc.build import mypycify
    from setuptools import Extension

    # From the root, as the names of sources end up in what is compiled: in its tracebacks.
    with tempfile.TemporaryDirectory() as work, contextlib.chdir(ROOT):
        # Whether there is a compiler is known at once, rather than behind mypyc.
        probe = Path(work, "probe.c")
        probe.write_text("#include <Python.h>\nvoid PyInit_probe(void) {}\n")
        _build([Extension("probe", [str(probe)])], work, work)
        extensions = mypycify(
            [
                "--config-file=",
                "--ignore-missing-imports",  # of extras, which pip builds without
                f"--cache-dir={work}/types",
                *(str(path.relative_to(ROOT)) for path in modules),
            ],
            opt_level="1",  # as fast as 3 by measurement, in two thirds of the time
            debug_level="0",
            group_name="agora",  # one library holds it all; each module is a door to it
            target_dir=work,
        )
        _build(extensions, str(folder), work)


def _build(extensions: list[Any], folder: str, work: str) -> None:
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    command = build_ext(Distribution({"ext_modules": extensions}))
    command.build_lib, command.build_temp, command.parallel = folder, work, 2
    command.ensure_finalized()
    command.run()


# The working tree


def main() -> None:
    """Have the compiled core in the working tree, or with ``never`` the plain one."""
    if _wish() != "never" and _library() and not changed_sources():
        return
    for path in _compiled(SOURCE):
        path.unlink()
    begun = time.time()
    compile_core(compiled_modules(), SOURCE)
    if library := _library():
        os.utime(library, (begun, begun))  # what was edited meanwhile is newer


def compiled_modules() -> list[Path]:
    """Return the modules that are compiled where that is possible."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return _modules(project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["custom"])


def watched_sources() -> list[Path]:
    """Return what the compiled core is made of: its modules, and neighbours with constants."""
    folders = {module.parent for module in compiled_modules()}
    return [path for folder in folders for path in folder.glob("*.py")]


def changed_sources() -> list[Path]:
    """Return what has changed since the tree was compiled; nothing where it is not."""
    library = _library()
    if library is None:
        return []
    built = library.stat().st_mtime
    sources = [ROOT / "pyproject.toml", *watched_sources()]
    return [path for path in sources if path.stat().st_mtime > built]


def _modules(config: Mapping[str, Any]) -> list[Path]:
    found = (path for pattern in config["modules"] for path in SOURCE.glob(pattern))
    return sorted(path for path in found if path.name not in config["not-modules"])


def _library() -> Path | None:
    return next((path for path in _compiled(SOURCE) if "__mypyc" in path.name), None)


def _compiled(folder: Path) -> list[Path]:
    return [path for end in ("so", "pyd") for path in folder.rglob(f"*.{end}")]


def _wish() -> str:
    return os.environ.get("AGORA_COMPILE", "auto")


if __name__ == "__main__":
    main()
