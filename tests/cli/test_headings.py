"""The help of ``agora relay``: every flag is told once, where one looks for it."""

from __future__ import annotations

import re

from click.testing import CliRunner

from agora.cli.headings import HEADINGS, REST, heading_of
from agora.cli.relay import relay
from agora.relay.config import SETTINGS


def test_every_heading_stands_over_settings_that_there_are() -> None:
    names = [*SETTINGS, "env_file"]
    beginnings = [one for several in HEADINGS.values() for one in several]

    assert [one for one in beginnings if not any(name.startswith(one) for name in names)] == []


def test_every_setting_is_told_once_and_under_its_heading() -> None:
    told = CliRunner().invoke(relay, ["--help"]).output
    _, *pieces = re.split(r"^([A-Z].*):$", told, flags=re.MULTILINE)
    parts = dict(zip(pieces[::2], pieces[1::2], strict=True))

    assert list(parts) == [*HEADINGS, REST]
    for name in SETTINGS:
        flag = re.compile(rf"^  --{name.replace('_', '-')}(?![\w-])", re.MULTILINE)
        assert [title for title, part in parts.items() if flag.search(part)] == [heading_of(name)]
