"""
Every bound of a relay, with its unit, its reason and what happens at it.

A bound is a field of :class:`Limits`; its metadata is the one place from which
``agora relay --help``, the environment names and the settings page are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from agora.errors import ConfigurationError

__all__ = ["Limits", "bounds", "check_setting", "setting"]


def setting(
    default: Any,
    *,
    unit: str,
    help: str,
    reason: str,
    overflow: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    env: str | None = None,
) -> Any:
    """
    Declare one setting as a dataclass field.

    Args:
        default: The value when nobody says otherwise.
        unit: Unit of the value, ``""`` for a plain choice.
        help: What it is, for people, without a full stop.
        reason: Why the default is what it is.
        overflow: What happens at the bound.
        minimum: Smallest value allowed.
        maximum: Largest value allowed; every number has one, see :func:`bounds`.
        choices: The values allowed, where they can be counted.
        env: Environment variable, where it is not ``AGORA_`` and the field's name.
    """
    metadata: Mapping[str, Any] = {
        "unit": unit,
        "help": help,
        "reason": reason,
        "overflow": overflow,
        "minimum": minimum,
        "maximum": maximum,
        "choices": choices,
        "env": env,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What one relay node admits.

    Raises:
        ConfigurationError: When made with a value outside a field's bounds.
    """

    max_frame_bytes: int = setting(
        262_144,
        unit="bytes",
        help="largest WebSocket message taken",
        reason="a long text fits many times; a flood of large frames does not",
        overflow="close 1009",
        minimum=1024,
    )
    max_connections: int = setting(
        10_000,
        unit="connections",
        help="open connections, registered or not, those still shaking hands included",
        reason="what one process serves with memory to spare",
        overflow="HTTP 503 at the handshake",
        minimum=1,
    )
    max_peers: int = setting(
        10_000,
        unit="peers",
        help="distinct keys online at once",
        reason="one connection each; the reference's 100 turns a small fleet away",
        overflow="error `at_capacity`, close 1013",
        minimum=1,
    )
    max_sessions: int = setting(
        256,
        unit="sessions",
        help="sessions of one key at once",
        reason="a fleet that shares a key; each message to it is written that many times",
        overflow="error `at_capacity`, close 1013",
        minimum=1,
    )
    max_unsent_bytes: int = setting(
        1_048_576,
        unit="bytes",
        help="bytes waiting to be sent on one connection before it counts as too slow",
        reason="seconds of a busy conversation; a thousand stuck readers take a gigabyte",
        overflow="close 4001 `slow_consumer`; mail in a mailbox stays",
        minimum=1024,
    )
    register_timeout: float = setting(
        10.0,
        unit="s",
        help="time a connection has to register",
        reason="a few round trips on the worst of links",
        overflow="close 4003 `register_timeout`",
        minimum=0.01,
    )
    heartbeat_interval: float = setting(
        30.0,
        unit="s",
        help="silence after which a session is pinged, then closed; 0 is off",
        reason="the reference's; keeps NAT bindings open and finds the dead within a minute",
        overflow="close 4002 `idle`",
        minimum=0.0,
    )
    rate_limit_enabled: bool = setting(
        True,
        unit="",
        help="whether rates are limited at all",
        reason="a relay meets strangers",
    )
    rate_limit_max_messages: int = setting(
        200,
        unit="messages",
        help="messages a key may send at once, and within each window after that",
        reason="a conversation never meets it; the reference's 10 a minute silences agents",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    rate_limit_window_ms: int = setting(
        10_000,
        unit="ms",
        help="time in which a used-up rate is whole again",
        reason="200 in 10 s is 20 a second",
        minimum=1,
    )
    rate_limit_max_frames: int = setting(
        2_000,
        unit="frames",
        help="frames of any kind a connection may send at once, and within each window",
        reason="ten for each message: pings and mistakes count too, so nobody gets work for free",
        overflow="error `rate_limited` with `retryAfterMs`",
        minimum=1,
    )
    broadcast_cost: int = setting(
        10,
        unit="messages",
        help="how many messages one broadcast counts for",
        reason="it reaches everyone",
        minimum=1,
    )
    dedup_enabled: bool = setting(
        True,
        unit="",
        help="whether an envelope taken for a recipient is refused the second time",
        reason="a retry must not arrive twice",
    )
    dedup_max_envelope_ids: int = setting(
        200_000,
        unit="ids",
        help="how many taken envelopes are remembered",
        reason="ten minutes of 300 messages a second, in some 45 MB",
        overflow="the oldest is forgotten; the recipient's own memory settles what comes twice",
        minimum=1,
    )
    dedup_max_age: float = setting(
        600.0,
        unit="s",
        help="how long a taken envelope is remembered",
        reason="longer than any client waits before it sends again",
        minimum=0.0,
    )
    max_name_length: int = setting(
        64,
        unit="characters",
        help="longest display name",
        reason="a name is sent to everybody who is online",
        overflow="error `invalid_message`",
        minimum=1,
    )
    mailbox_max_messages: int = setting(
        1_000,
        unit="messages",
        help="messages one mailbox holds",
        reason="a day of a busy peer's absence",
        overflow="error `mailbox_full` to the sender; nothing older is thrown away",
        minimum=1,
    )
    mailbox_max_bytes: int = setting(
        16_777_216,
        unit="bytes",
        help="bytes one mailbox holds",
        reason="1,000 messages of 16 KiB",
        overflow="error `mailbox_full` to the sender",
        minimum=1024,
    )
    mailbox_max_age: float = setting(
        604_800.0,
        unit="s",
        help="how long mail is kept; 0 is for ever",
        reason="a week's holiday, as the reference's replay window",
        overflow="the message is removed, counted and logged",
        minimum=0.0,
    )
    window_messages: int = setting(
        256,
        unit="messages",
        help="unconfirmed mail in flight from a mailbox to one session",
        reason="a round trip's worth on a slow link",
        overflow="the rest waits in the mailbox",
        minimum=1,
    )
    window_bytes: int = setting(
        524_288,
        unit="bytes",
        help="bytes of unconfirmed mail in flight from a mailbox to one session",
        reason="half of max_unsent_bytes, so that mail alone never makes a session slow",
        overflow="the rest waits in the mailbox",
        minimum=1024,
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            check_setting(declared, getattr(self, declared.name))


def check_setting(declared: Field[Any], value: Any) -> None:
    """
    Check the value of one setting against what was declared for it.

    Raises:
        ConfigurationError: When it cannot be; the message names the setting and its bounds.
    """
    name, choices = declared.name, declared.metadata["choices"]
    if choices and value not in choices:
        raise ConfigurationError(f"{name} of {value!r} is none of {' · '.join(choices)}")
    if _is_number(declared.default):
        _check_number(name, value, declared)


def bounds(declared: Field[Any]) -> tuple[float, float]:
    """
    Return the smallest and the largest value of a setting that is a number.

    Without a maximum of its own a time ends at ten years, which every clock can
    add to now, and anything else at the last whole number that JSON has.
    """
    minimum, maximum = declared.metadata["minimum"], declared.metadata["maximum"]
    largest = _LONGEST.get(declared.metadata["unit"], 2**53 - 1)
    return 0 if minimum is None else minimum, largest if maximum is None else maximum


_LONGEST = {"s": 315_360_000, "ms": 315_360_000_000}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_number(name: str, value: Any, declared: Field[Any]) -> None:
    is_whole = isinstance(declared.default, int)
    if not _is_number(value) or (is_whole and not isinstance(value, int)):
        raise ConfigurationError(f"{name} of {value!r} is no {'whole ' * is_whole}number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name} of {value} is not finite")
    minimum, maximum = bounds(declared)
    if value < minimum:
        raise ConfigurationError(f"{name} of {value} is below its minimum of {minimum}")
    if value > maximum:
        raise ConfigurationError(f"{name} of {value} is above its maximum of {maximum}")
