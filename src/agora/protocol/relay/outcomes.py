"""What senders are told of their messages, counted: once for each message and recipient."""

from __future__ import annotations

from typing import Final

from agora.codes import ReceiptStatus

__all__ = ["Outcomes"]

# At hand, as this is asked of every message.
_DELIVERED: Final = ReceiptStatus.DELIVERED
_STORED: Final = ReceiptStatus.STORED
_SENT: Final = ReceiptStatus.SENT


class Outcomes:
    """
    How often a message was delivered, stored, sent on, known already, or refused.

    A broadcast counts once.
    """

    def __init__(self) -> None:
        self.delivered = 0
        self.stored = 0
        self.sent = 0
        self.duplicate = 0
        self.refused = 0

    def add(self, status: ReceiptStatus, *, is_of_repeat: bool) -> None:
        """Count a receipt; that of a repeat tells of a message which was counted before."""
        if is_of_repeat:
            self.duplicate += 1
        elif status is _DELIVERED:
            self.delivered += 1
        elif status is _STORED:
            self.stored += 1
        elif status is _SENT:
            self.sent += 1
        else:
            self.duplicate += 1

    def to_dict(self) -> dict[str, int]:
        """Return all by their names."""
        return {
            "delivered": self.delivered,
            "stored": self.stored,
            "sent": self.sent,
            "duplicate": self.duplicate,
            "refused": self.refused,
        }
