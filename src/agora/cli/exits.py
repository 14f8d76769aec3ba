"""
How the command line ends: one table of exit codes, by what went wrong.

The numbers keep their meaning, for scripts; docs/reference/cli.md is made from
the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from agora.errors import (
    AgoraError,
    ClosedError,
    IdentityError,
    InputError,
    MissingExtraError,
    NoAnswerError,
    NotConnectedError,
    PeerReferenceError,
    RefusedError,
    RelayChangedError,
    TryAgainError,
)

__all__ = [
    "EXIT_CODES",
    "CannotStartError",
    "Exit",
    "NoFiguresError",
    "NoIdentityError",
    "NotConfirmedError",
    "NotInStoreError",
    "NotTakenError",
    "StoppedError",
    "StrangeAnswerError",
    "exit_code",
    "hint_of",
]


class NotTakenError(TryAgainError):
    """
    The relay did not take a message, for now.

    Attributes:
        code: The relay's word for why, such as ``unknown_recipient``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code


class CannotStartError(AgoraError):
    """The relay cannot listen, or cannot use its files."""

    code = "cannot_start"


class NoIdentityError(IdentityError):
    """There is no config file yet; the message says how to make one."""

    code = "no_identity"


class NotConfirmedError(AgoraError):
    """It was asked whether to do it, and nobody said yes."""

    code = "not_confirmed"


class NotInStoreError(PeerReferenceError):
    """A relay keeps nothing of that peer; the message says what shows whose it keeps."""


class NoFiguresError(NotConnectedError):
    """No relay answers where its figures should be; the message has the URL."""


class StrangeAnswerError(AgoraError):
    """What answers there is no relay, or none of this version."""

    code = "strange_answer"


class StoppedError(AgoraError):
    """A signal came before it was done."""

    code = "interrupted"


@dataclass(frozen=True, slots=True)
class Exit:
    """When a command ends with a code, which exceptions are that, and what a person may try."""

    when: str
    errors: tuple[type[BaseException], ...] = ()
    hint: str = ""


EXIT_CODES: dict[int, Exit] = {
    0: Exit("it is done; for what runs until it is stopped: it was stopped"),
    1: Exit("something that has no code of its own", (AgoraError, OSError)),
    2: Exit("the command line, a setting or a value is wrong", (InputError,)),
    3: Exit(
        "a key file is missing, damaged, open to others, or would be overwritten", (IdentityError,)
    ),
    4: Exit(
        "no peer is known by that name, or more than one",
        (PeerReferenceError,),
        "agora peers lists who is known, agora peers add makes one known",
    ),
    5: Exit("the relay, or the peer that was to confirm, refused, finally", (RefusedError,)),
    6: Exit(
        "no relay there, or none that registers us",
        (NotConnectedError, ClosedError),
        "agora relay starts one, --relay URL names another",
    ),
    7: Exit("no answer in time; what was asked may have happened", (NoAnswerError,)),
    8: Exit(
        "the relay did not take the message for now: `unknown_recipient` (not there, and no "
        "mailbox), `mailbox_full`, `unavailable`, `rate_limited`",
        (TryAgainError,),
    ),
    9: Exit("a part that is not installed is needed; the message says which", (MissingExtraError,)),
    10: Exit("the relay cannot listen there, or not use its files", (CannotStartError,)),
    11: Exit(
        "the relay has another key than the one known by its URL, or proves none; the message "
        "has the command to forget the one known",
        (RelayChangedError,),
    ),
    130: Exit("interrupted (Ctrl-C) before it was done", (KeyboardInterrupt, StoppedError)),
    141: Exit("nobody reads the output any more, as after `| head`", (BrokenPipeError,)),
}
"""Every exit code. A second SIGINT or SIGTERM ends a relay by that signal, without a code."""

_BY_ERROR = {kind: code for code, exit_ in EXIT_CODES.items() for kind in exit_.errors}


def exit_code(error: BaseException) -> int:
    """
    Return the code for *error*: that of its nearest kin in the table.

    >>> exit_code(NotTakenError("mailbox_full", "no room")), exit_code(FileNotFoundError())
    (8, 1)
    """
    return next(_BY_ERROR[kind] for kind in type(error).__mro__ if kind in _BY_ERROR)


def hint_of(error: BaseException) -> str:
    """Return what a person may try beside what the message says; empty if that says it all."""
    says_it_all = isinstance(error, NotInStoreError | NoFiguresError)
    return "" if says_it_all else EXIT_CODES[exit_code(error)].hint
