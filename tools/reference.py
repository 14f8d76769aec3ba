"""
The reference pages of commands, settings, codes, metrics and Python, made from the code.

``make pages`` writes them; a test holds the
files equal to what is made here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import Field, fields
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

import agora
from agora import client, errors, sync, testing
from agora.cli.exits import EXIT_CODES, exit_code
from agora.cli.program import program
from agora.cli.settings import flags_of, shown_default
from agora.codes import (
    CLOSE_ADVICE,
    ERROR_ADVICE,
    HTTP_ERROR_ADVICE,
    HTTP_STATUS,
    RECEIPT_MEANING,
    Advice,
    CloseCode,
    ErrorCode,
    ReceiptStatus,
)
from agora.errors import AgoraError
from agora.keys import KeyPair
from agora.known_relays import KnownRelays
from agora.limits import Limits
from agora.relay.config import SETTINGS, LogConfig, environment_names
from agora.relay.http.document import document
from agora.relay.http.exposition import METRICS, Metric
from agora.relay.http.reference import reference
from agora.settings import Effect, bounds
from agora.testing import conformance, conversation, relay_contract
from agora.testing.clock import ManualClock
from tools.api import class_section, function_section, prose

__all__ = ["JSON_OBJECTS", "PAGES", "cli_page", "metrics_page", "python_page", "settings_page"]

_MADE = "<!-- Made by `make pages`; do not edit. -->\n"


# Settings


def settings_page() -> str:
    """Return docs/reference/settings.md."""
    limits, logs = ({field.name for field in fields(kind)} for kind in (Limits, LogConfig))
    rest = SETTINGS.keys() - limits - logs
    sections = {"Place and policy": rest, "Limits": limits, "Logs": logs}
    return "\n".join([_SETTINGS_TEXT, *(_section(*item) for item in sections.items())])


_SETTINGS_TEXT = f"""# Settings of a relay

{_MADE}
Each is a flag of `agora relay`, a variable of the environment or of a `.env` file in the working
directory, and an argument of `agora.Relay` (`--max-peers` is `max_peers`). Flags win over the
environment, the environment over `.env`, that over the default. An empty variable counts as none.

Truths are `1`, `true`, `yes`, `on` and `0`, `false`, `no`, `off`. Numbers are finite; without a
smaller maximum times end at ten years, and all else at 2^53 - 1. What cannot be is refused at the
start with exit code 2, and the message names the flag or the variable.

`--env-file FILE` names another file in place of `.env`. SIGHUP has a running relay read it again,
and the certificate; flags and the environment are those of its start. When a new value counts is
said of each; what waits for a restart is in the log. One value that cannot be, or a certificate
that does not fit, and nothing is taken over: the log has an error with its name, and the relay
goes on as it was. Windows has no SIGHUP: restart it there. TLS itself is switched on and off by a
restart.

An embedded relay, `agora.Relay(...)`, reads no environment and no files, leaves the logs alone,
and keeps nothing without a `data_dir`; `await relay.reload(config)` gives it other settings.
"""


def _section(title: str, names: Iterable[str]) -> str:
    wanted = [declared for name, declared in SETTINGS.items() if name in set(names)]
    has_bound = any(declared.metadata["overflow"] for declared in wanted)
    rows = [_setting_row(declared) for declared in wanted]
    if has_bound:
        return f"## {title}\n\n{_table((*_SETTING_HEAD, 'At the bound'), rows)}"
    return f"## {title}\n\n{_table(_SETTING_HEAD, [row[:-1] for row in rows])}"


_SETTING_HEAD = (
    "Flag",
    "Environment",
    "Default",
    "Allowed",
    "What it is",
    "Why this default",
    "A new value counts",
)


def _setting_row(declared: Field[Any]) -> tuple[str, ...]:
    about = declared.metadata
    return (
        _codes(flag for flags in flags_of(declared) for flag in flags.split("/")),
        _codes(environment_names(declared)),
        shown_default(declared),
        _allowed(declared),
        about["help"],
        about["reason"],
        _EFFECTS[about["effect"]],
        about["overflow"],
    )


_EFFECTS = {
    Effect.RESTART: "after a restart",
    Effect.AT_ONCE: "at once",
    Effect.NEW_CONNECTIONS: "for new connections",
}


def _allowed(declared: Field[Any]) -> str:
    if choices := declared.metadata["choices"]:
        return _codes(choices)
    if isinstance(declared.default, bool) or not isinstance(declared.default, int | float):
        return ""
    smallest, largest = bounds(declared)
    if declared.metadata["maximum"] is None:
        return f"from {smallest:g}"
    return f"{smallest:g} to {largest:g}"


# HTTP


def http_page() -> str:
    """Return docs/reference/http.md."""
    return f"# The HTTP API\n\n{_MADE}\n{reference(document())}"


# Commands


def cli_page() -> str:
    """Return docs/reference/cli.md."""
    codes = [(str(code), exit_.when) for code, exit_ in EXIT_CODES.items()]
    common = [option for option in program.params if option.name != "version"]
    objects = [(f"`{command}`", members) for command, members in JSON_OBJECTS.items()]
    failures = [_failure_row(kind) for kind in _kinds_of_failure()]
    return "\n".join(
        [
            _CLI_TEXT,
            _table((_COMMON_HEAD, "Meaning"), _option_rows(common)),
            "## Exit codes\n",
            _table(("Code", "When"), codes),
            f"## For programs\n\n{_JSON_TEXT}",
            _table(("Command", "Object"), objects),
            _FAILURES_TEXT,
            _table(("Code", "What it says", "Exit code"), failures),
            *_commands(program, _context()),
        ]
    )


_CLI_TEXT = f"""# The command line

{_MADE}
`agora`, or `python -m agora`. Data goes to standard output, all else to standard error. Peers are
shown as `name@125531b8`: your name for a contact and the last eight digits of its id. A name with
a tilde, `~name@125531b8`, is what a stranger calls itself, and proves nothing. Colours are for
terminals alone, and never where `NO_COLOR` is set.

The identity is that of the config file: `--config`, else `--profile`, else `AGORA_CONFIG`, else
`config.json` in `AGORA_CONFIG_DIR`, else `~/.config/agora/config.json`. Its layout is that of the
reference, whose users keep their keys. Nobody else may be able to read it.
"""

_COMMON_HEAD = "Option of every command but relay; top and bench have `--json` alone"

_JSON_TEXT = """With `--json` standard output holds one JSON object per line, in ASCII. A command
that fails writes its reason to standard error and ends with one more object, unless the command
line itself was wrong: `{"status": "failed", "code": …, "message": …}`. `name` is your name for a
peer, `claimedName` what it calls itself. Members that say nothing are left out.
"""

_FAILURES_TEXT = """The `code` of a failure is one of these, or one of the
[relay's codes](codes.md).
"""


def _kinds_of_failure() -> Iterator[type[AgoraError]]:
    """Yield the errors of the command line that have a code of their own, from the root down."""
    kinds = [AgoraError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        if kind.__module__ in _FAILING and "code" in vars(kind):
            yield kind


_FAILING = (AgoraError.__module__, exit_code.__module__)


def _failure_row(kind: type[AgoraError]) -> tuple[str, str, str]:
    code = exit_code(kind.__new__(kind))
    says = EXIT_CODES[1].when if kind is AgoraError else cleandoc(kind.__doc__ or "").split("\n")[0]
    return f"`{kind.code}`", says, str(code)


JSON_OBJECTS = {
    "init": "`status` (`initialized`, `already_initialized`, `updated`), `publicKey`, `configPath`",
    "whoami": "`publicKey`, `short`, `configPath`, `relay`, `name`",
    "send": "`status` (`delivered`, `stored`, `sent`, `duplicate`; `queued` in the outbox, before "
    "the failure that keeps it there), `id`, `to`, `type`, `count` (to how many a broadcast went)",
    "send: not kept": "`status` (`not_kept`), `id`, `to`, `type`, `message`: before the failure, "
    "where the outbox should keep it and cannot",
    "send --confirm": "one more: `status` (`processed`), `id`, `to`, `type`",
    "request": "the answer, as `listen: message`",
    "listen: message": "`event` (`message`), `id`, `type`, `from`, `name`, `claimedName`, `to`, "
    "`timestamp`, `inReplyTo`, `payload`",
    "listen: presence": "`event` (`peer_online`, `peer_offline`), `publicKey`, `name`, "
    "`claimedName`",
    "listen: connection": "`event` (`connected`, `connecting`, `closed`), `code`, `message`",
    "listen: receipt": "`event` (`receipt`), `status`, `id`, `to`, `name`: of what waited in the "
    "outbox",
    "listen: bounced": "`event` (`bounced`), `code`, `id`, `to`, `name`: the relay gave it up",
    "listen: withheld": "`event` (`withheld`), `reason` (`ignored`, `not_a_contact`), `id`, "
    "`type`, `from`, `name`",
    "listen: contact_request": "`event` (`contact_request`), `id`, `type`, `from`, `claimedName`",
    "listen: error": "`event` (`error`), `code`, `reason`, `message`: a forged message, say, or an "
    "error of the relay; it goes on",
    "peers": "`publicKey`, `name`, `claimedName`, `online` (null if nobody was asked)",
    "peers add": "`status` (`added`, `renamed`), `publicKey`, `name`",
    "peers remove": "`status` (`removed`), `publicKey`, `name`",
    "keys": "`publicKey`",
    "keys generate": "`status` (`generated`), `publicKey`, `path`",
    "keys export": "`publicKey` or `privateKey`; with a file `status` (`exported`), `publicKey`, "
    "`path`",
    "keys import": "`status` (`imported`), `publicKey`, `configPath`",
    "ignore": "`status` (`ignored`), `changed`, `publicKey`, `name`",
    "unignore": "`status` (`unignored`), `changed`, `publicKey`, `name`",
    "ignored": "`publicKey`, `name`",
    "policy": "`policy`",
    "mailbox list": "`event` (`mailbox`), `recipient`, `messages`, `bytes`, `deadLetters`, "
    "`oldestMs`, `retained` (acked, where any is); at the end `event` (`total`), `mailboxes`, "
    "`messages`, `bytes`, `deadLetters`, `pins`",
    "mailbox dead": "`event` (`dead_letter`), `id`, `from`, `to`, `nacks`, `storedMs`, `diedMs`, "
    "`damaged`, `envelope` (with `--show`)",
    "mailbox pins": "`event` (`total`), `pins`; with `--list` `event` (`pin`), `publicKey`",
    "mailbox purge": "`status` (`purged`), `publicKey`, `removed`",
    "mailbox unpin": "`status` (`unpinned`), `publicKey`",
    "mailbox export": "`status` (`exported`), `file`, `messages`, `deadLetters`, `pins`, `damaged`",
    "mailbox import": "`status` (`imported`), `messages`, `deadLetters`, `pins`, `present` (there "
    "already), `refused` (signed by nobody)",
    "top": "a look: what `GET /admin/overview` answers",
    "bench": "a run: `bench` (its name), `relay`, `dialect`, and its figures, each with its unit "
    "in its name",
    "bench all": "first `bench` (`record`), `machine`, `taken`, `settings`, `against`; then every "
    "run",
    "known-relays": "`relay` (host and port), `publicKey`",
    "known-relays pin": "`status` (`pinned`, `replaced`), `relay`, `publicKey`",
    "known-relays forget": "`status` (`forgotten`), `relay`",
}
"""What each command writes with ``--json``; a test holds the commands to it."""


def _context() -> click.Context:
    return click.Context(program, info_name="agora", **program.context_settings)


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None  # it is listed
        inside = click.Context(command, info_name=name, parent=context)
        yield _command(command, inside)
        if isinstance(command, click.Group):
            yield from _commands(command, inside)


def _command(command: click.Command, context: click.Context) -> str:
    path = context.command_path
    usage = command.collect_usage_pieces(context)
    common = {parameter.name for parameter in program.params}
    if path == "agora relay":
        common |= set(SETTINGS)
    own = [parameter for parameter in command.params if parameter.name not in common]
    rows = list(_option_rows(own))
    parts = [
        f"## {path}\n",
        f"```text\n{' '.join([path, *usage])}\n```\n",
        f"{_plain(cleandoc(command.help or ''))}\n",
        _table(("Option", "Meaning"), rows) if rows else "",
        "Every setting is a flag: [settings](settings.md).\n" if path == "agora relay" else "",
        f"{_plain(command.epilog)}\n" if command.epilog else "",
    ]
    return "\n".join(filter(None, parts))


def _option_rows(parameters: Iterable[click.Parameter]) -> Iterator[tuple[str, str]]:
    for parameter in parameters:
        if not isinstance(parameter, click.Option):
            continue
        names = ", ".join(parameter.opts)
        flag = f"{names} {parameter.metavar}" if parameter.metavar else names
        notes = [parameter.help or ""]
        if parameter.show_default:
            notes.append(f"[default: {parameter.default}]")
        if parameter.show_envvar:
            notes.append(f"[{parameter.envvar}]")
        yield _codes([flag]), " ".join(filter(None, notes))


# Markdown


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(map(_cell, row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _codes(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _plain(text: str) -> str:
    return text.replace("*", "\\*").replace("~", "\\~")


# Codes


def codes_page() -> str:
    """Return docs/reference/codes.md."""
    receipts = [(f"`{status}`", RECEIPT_MEANING[status]) for status in ReceiptStatus]
    errors = [_code_row(f"`{code}`", ERROR_ADVICE[code]) for code in ErrorCode]
    http = [
        (str(HTTP_STATUS[code]), f"`{code}`", advice.when, advice.do)
        for code, advice in HTTP_ERROR_ADVICE.items()
    ]
    closes = [
        _code_row(f"{code:d} `{code.name.lower()}`", CLOSE_ADVICE[code]) for code in CloseCode
    ]
    return "\n".join(
        [
            _CODES_TEXT,
            f"## In a `receipt` frame\n\n{_RECEIPTS_TEXT}",
            _table(("Status", "What has become of the envelope"), receipts),
            f"## In an `error` frame\n\n{_ERRORS_TEXT}",
            _table(("Code", "When", "What to do", "Sent again by our client"), errors),
            f"## In an answer by HTTP\n\n{_HTTP_ERRORS_TEXT}",
            _table(("Status", "Code", "When", "What to do"), http),
            "## When a connection is closed\n",
            _table(("Code", "When", "What to do", "Our client comes back"), closes),
        ]
    )


_HTTP_ERRORS_TEXT = """Those of frames, with the status that [the HTTP API](http.md) says; and:
"""

_CODES_TEXT = f"""# Codes

{_MADE}
A code is for programs and never changes its meaning; the text beside it is for people. What they
are answers to: [protocol](protocol.md). Close codes from 4500 to 4999 mean that coming back would
not help.
"""

_RECEIPTS_TEXT = """What a relay tells a sender that registered with proof, once for each envelope
and recipient.
"""

_ERRORS_TEXT = """An error answers one frame, which has changed nothing, and names its envelope
(`id`) and recipient (`to`) where it had them. Two codes come later, in the payload of a bounce.
"""


def _code_row(code: str, advice: Advice) -> tuple[str, ...]:
    return (code, advice.when, advice.do, "no" if advice.final else "yes")


# Metrics


def metrics_page() -> str:
    """Return docs/reference/metrics.md."""
    head = ("Metric", "Type", "Labels", "What it is", "When to worry")
    return f"{_METRICS_TEXT}\n{_table(head, map(_metric_row, METRICS))}\n{_METRICS_END}"


def _metric_row(metric: Metric) -> tuple[str, ...]:
    labels = _codes(metric.labels)
    return (f"`{metric.series}`", metric.kind, labels, metric.help, metric.worry)


_METRICS_TEXT = f"""# Metrics

{_MADE}
`GET /metrics` at the relay's HTTP port gives them to [Prometheus](https://prometheus.io), as
OpenMetrics to whoever accepts that. Nobody needs a token for it: there is no peer, no id and no
word of a stranger in it, and as many series whatever comes. Counters begin at 0 when the relay
starts. Times are seconds, sizes bytes. What is looked up on disk is at most a second old.

A relay also counts what every process has: `process_resident_memory_bytes`,
`process_cpu_seconds_total`, `process_open_fds`, `process_max_fds`, `process_start_time_seconds`,
`process_virtual_memory_bytes` (Linux).
"""

_METRICS_END = """A label has only these values: `outcome` is `delivered`, `stored`, `sent`,
`duplicate` or `refused`; `door` is `websocket` or `http`; `dialect` is `agora/1` or `reference`;
`where` is `loop` or `process`; `code` is one of the [codes](codes.md), of errors and of closed
connections.

Rules for alarms, made of these: `deploy/prometheus/alerts.yml`; a dashboard for Grafana:
`deploy/prometheus/grafana.json`. What a relay does beyond figures: [watch a
relay](../howto/watch-a-relay.md).
"""


# Python


def python_page() -> str:
    """Return docs/reference/python.md."""
    shown = "status id to why count bounced kept settled confirmed"  # the rest is the client's
    return "\n".join(
        [
            _PYTHON_TEXT,
            "## Keys and envelopes\n",
            class_section("agora.Identity", agora.Identity, is_made_here=False),
            class_section("agora.keys.KeyPair", KeyPair, is_made_here=False),
            function_section("agora.seal", agora.seal),
            function_section("agora.open_envelope", agora.open_envelope),
            function_section("agora.canonical_json", agora.canonical_json),
            class_section("agora.Envelope", agora.Envelope, is_made_here=False),
            "## The client\n",
            class_section("agora.Client", agora.Client),
            class_section("agora.Message", agora.Message, is_made_here=False),
            class_section("agora.Receipt", agora.Receipt, is_made_here=False, only=shown),
            class_section("agora.client.Timing", client.Timing),
            "## Events\n",
            "What `listen` and `events` of a client tell of; each is in `agora.client`.\n",
            class_section("StateChanged", client.StateChanged),
            class_section("PresenceChanged", client.PresenceChanged),
            class_section("Bounced", client.Bounced),
            class_section("Withheld", client.Withheld),
            class_section("ContactRequest", client.ContactRequest),
            class_section("TransportChanged", client.TransportChanged),
            class_section("Trouble", client.Trouble),
            f"## Who may write, and which relay\n\n{_CONSENT_TEXT}",
            class_section("agora.client.Guard", client.Guard),
            class_section("agora.client.ContactPolicy", client.ContactPolicy, is_made_here=False),
            class_section("agora.client.ConsentRules", client.ConsentRules),
            class_section("agora.known_relays.KnownRelays", KnownRelays),
            f"## Without asyncio\n\n{_SYNC_TEXT}",
            class_section("agora.sync.Client", sync.Client, is_made_here=False, only="on run"),
            class_section("agora.sync.Message", sync.Message, is_made_here=False, only="reply"),
            "## A relay\n",
            class_section("agora.Relay", agora.Relay),
            f"## Errors\n\n{_errors()}",
            "## For tests\n\nHow to use them: [test your agent](../howto/test-your-agent.md).\n",
            function_section("agora.testing.relay_in_thread", testing.relay_in_thread),
            class_section("agora.testing.RelayInThread", testing.RelayInThread),
            class_section("agora.testing.clock.ManualClock", ManualClock),
            class_section("agora.testing.conversation.Conversation", conversation.Conversation),
            class_section("Speaker", conversation.Speaker, is_made_here=False),
            class_section("Agent", conversation.Agent, is_made_here=False),
            _relay_contract_section(),
            _contract_section(),
        ]
    )


_PYTHON_TEXT = f"""# Python

{_MADE}
The public names, with what their docstrings say. `import agora` gives the names with one dot, such
as `agora.Client`, and `agora.sync`; the rest is imported from its module. Where a call is shown
with `await`, it needs one. A client and a relay are context managers: `async with` starts and
closes them. `async for message in client` gives the messages as they come.
"""

_CONSENT_TEXT = """How to use it: [who may write to me](../howto/who-may-write-to-me.md).
"""

_SYNC_TEXT = """All other members are those of `agora.Client`, `agora.Message` and `agora.Receipt`,
without `await`; `for message in client` gives the messages. How to use it:
[without asyncio](../howto/without-asyncio.md).
"""


def _errors() -> str:
    assert errors.__doc__ is not None
    tree = errors.__doc__.split("::\n\n")[1].split("\n\n")[0]
    kinds = [getattr(errors, name) for name in errors.__all__]
    rows = [(f"`{kind.__name__}`", f"`{kind.code}`", _first_line(kind)) for kind in kinds]
    return (
        f"All are in `agora.errors`.\n\n```text\n{cleandoc(tree)}\n```\n\n"
        + _table(("Class", "Its `code`", "What it says"), rows)
        + "\n`FrameError` and `RefusedError` carry the `code` of what they tell of.\n"
    )


def _contract_section() -> str:
    name, kind = "agora.testing.conformance.MailboxContract", conformance.MailboxContract
    return class_section(name, kind, is_made_here=False, only="new_mailbox")


def _relay_contract_section() -> str:
    name, kind = "agora.testing.relay_contract.RelayContract", relay_contract.RelayContract
    return class_section(name, kind, is_made_here=False, only="new_client")


def _first_line(kind: type) -> str:
    return " ".join(prose(kind.__doc__ or "").split("\n\n")[0].split())


PAGES = {
    "cli.md": cli_page,
    "codes.md": codes_page,
    "http.md": http_page,
    "metrics.md": metrics_page,
    "python.md": python_page,
    "settings.md": settings_page,
}


def _main(folder: Path) -> None:
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
