"""
How a setting is declared: a dataclass field with its unit, its reason and its bounds.

The metadata of a field is the one place from which ``agora relay --help``, the
environment names and the settings page are made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import Field, field
from enum import StrEnum
from typing import Any

from agora.errors import ConfigurationError

__all__ = ["Effect", "bounds", "check_setting", "setting"]


class Effect(StrEnum):
    """When a new value of a setting counts that a running relay is told of: for whom."""

    RESTART = "restart"
    AT_ONCE = "at once"
    NEW_CONNECTIONS = "new connections"


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
    effect: Effect = Effect.RESTART,
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
        effect: When a new value counts, once the relay is running.
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
        "effect": effect,
    }
    return field(default=default, metadata=metadata)


def check_setting(declared: Field[Any], value: Any) -> None:
    """
    Check the value of one setting against what was declared for it.

    Raises:
        ConfigurationError: When it cannot be; the message names the setting and its bounds.
    """
    name, choices = declared.name, declared.metadata["choices"]
    if choices and value not in choices:
        raise ConfigurationError(f"{name} of {value!r} is none of {' · '.join(choices)}")
    if _is_number(declared.default) or (value is not None and declared.metadata["maximum"]):
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
    is_whole = not isinstance(declared.default, float)
    if not _is_number(value) or (is_whole and not isinstance(value, int)):
        raise ConfigurationError(f"{name} of {value!r} is no {'whole ' * is_whole}number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name} of {value} is not finite")
    minimum, maximum = bounds(declared)
    if value < minimum:
        raise ConfigurationError(f"{name} of {value} is below its minimum of {minimum}")
    if value > maximum:
        raise ConfigurationError(f"{name} of {value} is above its maximum of {maximum}")
