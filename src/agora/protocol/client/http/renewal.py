"""A second proof in the same conversation: for another token, and nobody needs to hear of it."""

from __future__ import annotations

from agora.errors import NotConnectedError, RefusedError
from agora.frames import Challenge, Register, decode_answer, decode_request
from agora.frames.members import encode
from agora.frames.requests import Authenticate
from agora.protocol.client.handshake import Handshake
from agora.protocol.client.http.answers import Answer
from agora.protocol.client.http.calls import Call, challenge_call, register_call

__all__ = ["Renewal"]


class Renewal:
    """
    One registration, call by call.

    Attributes:
        next_call: What to ask next; None when there is a token.
        token: What it was all for.
    """

    def __init__(self, handshake: Handshake) -> None:
        self.token = ""
        self._handshake = handshake
        register = decode_request(handshake.register())
        assert isinstance(register, Register), "a handshake begins with it"
        self._register = register
        self.next_call: Call | None = challenge_call(register)

    def hear(self, answer: Answer) -> None:
        """
        Take the answer to the call.

        Raises:
            RefusedError, RelayChangedError: When one of us does not believe the other.
            NotConnectedError: When there is no answer to that now.
        """
        if not answer.is_good:
            code = (answer.error or {}).get("code", "unavailable")
            raise RefusedError(str(code), answer.reason)
        members = answer.members
        if isinstance(token := members.get("token"), str):
            self.token, self.next_call = token, None
            return
        challenge = decode_answer(encode({**members, "type": "challenge"}))
        proof = self._handshake.prove(challenge) if isinstance(challenge, Challenge) else None
        authenticate = decode_request(proof or "{}")
        if not (isinstance(challenge, Challenge) and isinstance(authenticate, Authenticate)):
            raise NotConnectedError("the relay did not ask for a proof")
        self.next_call = register_call(self._register, authenticate, challenge.nonce)
