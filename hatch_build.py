"""
Compile the core to C: the same sources, read by mypyc, for whoever has a C compiler.

Hatchling runs this for a wheel, `make compiled` for the working tree
(``python hatch_build.py``). Which modules, and why those, stands in pyproject.toml;
docs/explanation/decisions/0019-compiled-core.md has what it gains.

The rule kept here: nobody needs a compiler. Where there is none, or it fails, the
core stays plain Python, and one line says so. ``AGORA_COMPILE`` decides otherwise:
``never`` does not try, ``always`` fails where it does not work.
"""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCE = ROOT / "src"
LIBRARY = "agora__mypyc"
"""All compiled code, as one file; each module is a small one beside its source that calls it."""


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
        if compiled := compile_core(self.config["modules"], folder):
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"].update(
                {str(path): str(path.relative_to(folder)) for path in compiled}
            )

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what was compiled: it is in the wheel."""
        if version != "editable":
            self._folder.cleanup()


def compile_core(modules: Iterable[str], folder: Path) -> list[Path]:
    """Compile *modules* into *folder*; return the files, none where it cannot be done."""
    wish = _wish()
    if wish == "never":
        return []
    print("compiling the core (20 seconds; AGORA_COMPILE=never leaves it out)", file=sys.stderr)
    try:
        _compile(modules, folder)
    except (Exception, SystemExit) as error:  # mypyc ends the process over an error of types
        if wish == "always":
            raise
        reason = str(error).partition("\n")[0]
        print(f"the core stays plain Python, which is slower: {reason}", file=sys.stderr)
        return []
    return _compiled(folder)


def _compile(modules: Iterable[str], folder: Path) -> None:
    # Imported here, as a pure wheel needs none of them.
    from mypyc.build import mypycify
    from setuptools import Extension

    with tempfile.TemporaryDirectory() as work:
        # Whether anything can be compiled is known at once, rather than behind mypyc.
        probe = Path(work, "probe.c")
        probe.write_text("#include <Python.h>\nvoid PyInit_probe(void) {}\n")
        _build([Extension("probe", [str(probe)])], work, work)
        extensions = mypycify(
            ["--config-file=", f"--cache-dir={work}/types", *(f"src/{one}" for one in modules)],
            opt_level="1",  # as fast as 3 by measurement, in two thirds of the time
            debug_level="0",
            group_name="agora",
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
    os.chdir(ROOT)
    if _wish() == "never":
        _remove()
    elif not _library() or stale_sources():
        _remove()
        compile_core(compiled_modules(), SOURCE)


def compiled_modules() -> list[str]:
    """Return the modules that are compiled, as paths below ``src``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hooks = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
    modules: list[str] = hooks["custom"]["modules"]
    return modules


def stale_sources() -> list[Path]:
    """Return what has changed since the tree was compiled; nothing where it is not."""
    if not (library := _library()):
        return []
    built = library.stat().st_mtime
    sources = [ROOT / "pyproject.toml", *(SOURCE / module for module in compiled_modules())]
    return [path for path in sources if path.stat().st_mtime > built]


def _library() -> Path | None:
    return next(SOURCE.glob(f"{LIBRARY}.*"), None)


def _compiled(folder: Path) -> list[Path]:
    return [path for end in (".so", ".pyd") for path in folder.rglob(f"*{end}")]


def _remove() -> None:
    for path in _compiled(SOURCE):
        path.unlink()


def _wish() -> str:
    return os.environ.get("AGORA_COMPILE", "auto")


if __name__ == "__main__":
    main()
