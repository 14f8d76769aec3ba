"""How much of others is too much: the bounds of a guard, each with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields

from agora.settings import check_setting, setting

__all__ = ["ConsentRules"]


@dataclass(frozen=True, kw_only=True)
class ConsentRules:
    """
    How much is too much.

    Raises:
        ConfigurationError: When made with a value outside a field's bounds.
    """

    sender_messages: int = setting(
        200,
        unit="messages",
        help="messages one sender may send at once, and within each window after; 0 is any number",
        reason="three a second for as long as it likes; the reference's 10 a minute is no talk",
        overflow="`Later`",
        minimum=0,
    )
    sender_window: float = setting(
        60.0,
        unit="s",
        help="time in which a sender's used-up rate is whole again",
        reason="the reference's",
        minimum=0.001,
    )
    stranger_messages: int = setting(
        200,
        unit="messages",
        help="the same for all strangers together; 0 is any number",
        reason="keys are free, so a thousand strangers may be one: together they get what one gets",
        overflow="`Later`",
        minimum=0,
    )
    stranger_window: float = setting(
        60.0,
        unit="s",
        help="time in which the strangers' used-up rate is whole again",
        reason="as of one sender",
        minimum=0.001,
    )
    max_strangers: int = setting(
        10_000,
        unit="senders",
        help="strangers whose rates are counted at once",
        reason="some 3 MB; met only where strangers together may send any number",
        overflow="`Later` to those not counted yet; nobody's count is given up",
        minimum=1,
    )
    repeat_window: float = setting(
        1_800.0,
        unit="s",
        help="time in which the same content from the same sender is a repeat; 0 is off",
        reason="the reference's",
        minimum=0.0,
    )
    repeat_types: frozenset[str] | None = setting(
        frozenset({"announce", "heartbeat"}),
        unit="",
        help="types of messages of which repeats are withheld; None is all types",
        reason="of a conversation nothing is withheld: a second `yes` answers a second question",
    )
    repeats_of_nothing: bool = setting(
        False,
        unit="",
        help="whether a message without content can be a repeat",
        reason="its type is all that it says, and it was sent to say it again",
    )
    max_contents: int = setting(
        5_000,
        unit="contents",
        help="contents remembered, of those known and of strangers each",
        reason="the reference's; some 1 MB",
        overflow="the oldest is forgotten: a repeat of it is admitted",
        minimum=1,
    )
    max_written: int = setting(
        10_000,
        unit="peers",
        help="peers remembered as those whom we wrote to",
        reason="more than anybody talks with; some 2 MB",
        overflow="whom we wrote to longest ago is a stranger again",
        minimum=1,
    )

    def __post_init__(self) -> None:
        for declared in fields(self):
            check_setting(declared, getattr(self, declared.name))
