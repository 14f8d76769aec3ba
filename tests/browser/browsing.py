"""Where the browser is, and what one says where there is none."""

from __future__ import annotations

import os
import shutil
from typing import Final

__all__ = ["FLAGS", "WHY_SKIPPED", "chromium"]

FLAGS: Final = [
    "--no-sandbox",  # tests may run as root, whom Chromium gives no sandbox
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

WHY_SKIPPED: Final = "no browser: apt install chromium, or say where one is in CHROMIUM"


def chromium() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)
