"""
Play the demo and draw what it printed as docs/images/demo.svg: the picture of the README.

An SVG of text needs no drawing library, reads sharp at any size, and shows what
the program really said.
"""

from __future__ import annotations

import subprocess
import sys
from html import escape
from pathlib import Path

ROOT = Path(__file__).parent.parent
TARGET = ROOT / "docs" / "images" / "demo.svg"

LINE_HEIGHT = 19
CHARACTER = 8.0
COLUMNS = 96


def main() -> None:
    """Write the picture."""
    played = subprocess.run(
        [sys.executable, "-m", "demo"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(draw(played.stdout.strip().splitlines()))


def draw(lines: list[str]) -> str:
    """Return the SVG of *lines*."""
    width, height = COLUMNS * CHARACTER + 40, len(lines) * LINE_HEIGHT + 40
    rows = "\n".join(
        f'<text x="20" y="{20 + LINE_HEIGHT * number}" xml:space="preserve">{row(line)}</text>'
        for number, line in enumerate(lines, start=1)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13">\n'
        f'<rect width="100%" height="100%" rx="8" fill="#16181d"/>\n'
        f'<g fill="#d7dae0">\n{rows}\n</g>\n</svg>\n'
    )


def row(line: str) -> str:
    """Return the spans of one line: scenes bright, who speaks in colour."""
    shown = escape(line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…")
    if line.startswith("──"):
        return f'<tspan fill="#f0c674">{shown}</tspan>'
    return f'<tspan fill="#7fb4ca">{shown[:10]}</tspan>{shown[10:]}'


if __name__ == "__main__":
    main()
