"""
Every exception that Agora raises, as a tree drawn by what the caller can do.

::

    AgoraError
    ├── InputError (ValueError)       correct what was passed in
    │   ├── CanonicalJSONError        a text or value outside JSON, or nested too deep
    │   ├── EnvelopeError             not a valid signed envelope; see ``reason``
    │   ├── FrameError                not a frame of the protocol; see ``code``
    │   ├── IdentityError             a key or key file that cannot be used
    │   ├── PeerReferenceError        no peer, or more than one, has that name
    │   └── ConfigurationError        a setting that cannot be
    ├── RefusedError                  the other side said no, finally; see ``code``
    ├── RelayChangedError             not the relay that is known by this URL
    ├── TryAgainError                 nothing is lost: wait, then do it again
    │   ├── NotConnectedError         no relay at the moment
    │   ├── NoAnswerError             no answer within the timeout (TimeoutError)
    │   └── OutboxFullError           too much waits already
    ├── ClosedError                   the client or relay was closed
    └── MissingExtraError             an optional part is not installed (ImportError)

Every class has a ``code``, stable across versions, for programs; the message
is for people and holds the numbers.
"""

from __future__ import annotations

__all__ = [
    "AgoraError",
    "CanonicalJSONError",
    "ClosedError",
    "ConfigurationError",
    "EnvelopeError",
    "FrameError",
    "IdentityError",
    "InputError",
    "MissingExtraError",
    "NoAnswerError",
    "NotConnectedError",
    "OutboxFullError",
    "PeerReferenceError",
    "RefusedError",
    "RelayChangedError",
    "TryAgainError",
]


class AgoraError(Exception):
    """The root: ``except AgoraError`` catches whatever Agora raises on purpose."""

    code: str = "error"


class InputError(AgoraError, ValueError):
    """What was passed in cannot be used; nothing was sent or changed."""

    code = "invalid_input"


class CanonicalJSONError(InputError):
    """A text that is not JSON, a value JSON cannot hold, or one nested too deep."""

    code = "invalid_json"


class EnvelopeError(InputError):
    """
    What came is not a valid signed envelope.

    Attributes:
        reason: ``invalid_routing_fields``, ``id_mismatch`` or
            ``signature_invalid``, as the reference says them.
    """

    code = "invalid_envelope"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class FrameError(InputError):
    """
    What came is not a frame of the protocol.

    Attributes:
        code: The code for the error frame that answers it.
        frame_type: The frame's ``type`` where it could be read.
        envelope_id: The id of the envelope in it, where there was one.
        to: The recipient it named, where there was one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        frame_type: str | None = None,
        envelope_id: str | None = None,
        to: str | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.frame_type = frame_type
        self.envelope_id = envelope_id
        self.to = to


class IdentityError(InputError):
    """A key or key file that is missing, damaged, or readable by others."""

    code = "invalid_identity"


class PeerReferenceError(InputError):
    """A name or short reference that fits no peer, or more than one."""

    code = "unknown_peer"


class ConfigurationError(InputError):
    """A setting that cannot be; the message names it and its bounds."""

    code = "invalid_configuration"


class RefusedError(AgoraError):
    """
    The relay refused, and asking again would change nothing.

    Attributes:
        code: The relay's code (see the table in ``agora.codes``).
        envelope_id: The refused envelope, where the refusal was about one.
    """

    def __init__(self, code: str, message: str, *, envelope_id: str | None = None) -> None:
        super().__init__(f"{message} ({code})")
        self.code = code
        self.envelope_id = envelope_id


class RelayChangedError(AgoraError):
    """
    The relay has another key than the one that is known by its URL, or does not prove it.

    The message names the URL, both keys, and the command to forget the old one.
    """

    code = "relay_changed"


class TryAgainError(AgoraError):
    """Not now; nothing is lost and the same call may succeed later."""

    code = "try_again"


class NotConnectedError(TryAgainError):
    """There is no registered connection to a relay at the moment."""

    code = "not_connected"


class NoAnswerError(TryAgainError, TimeoutError):
    """
    No answer within the timeout; the message may still arrive.

    Attributes:
        why: The code that kept the message waiting to the end, such as
            ``unknown_recipient``; None when it was on its way.
    """

    code = "no_answer"

    def __init__(self, message: str, *, why: str | None = None) -> None:
        super().__init__(f"{message}: {why}" if why else message)
        self.why = why


class OutboxFullError(TryAgainError):
    """The outbox is at its bound; the message was not taken."""

    code = "outbox_full"


class ClosedError(AgoraError):
    """The client or relay was closed; make a new one."""

    code = "closed"


class MissingExtraError(AgoraError, ImportError):
    """An optional part is not installed; the message says which extra to add."""

    code = "missing_extra"
