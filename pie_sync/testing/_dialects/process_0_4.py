"""The process protocol of Pie 0.3 and 0.4: requires authentication, and ignores what it does not understand."""

from __future__ import annotations

from .._programs.instance import Output
from .._server.channel import Channel
from .._server.client import CloseConnection
from .._server.core import Core
from .._server.users import Login, LoginAnswer
from .process import REQUESTS, Message, ProcessDialect
from .schema import Schema, decode, is_str, is_uint32

__all__ = ["Process04Dialect"]

TOKEN_REFUSAL_DELAY = 1.0  # seconds

AUTHENTICATION: Schema = {
    "auth_identify": {"corr_id": is_uint32, "username": is_str},
    "auth_prove": {"corr_id": is_uint32, "signature": is_str},
    "auth_by_token": {"corr_id": is_uint32, "token": is_str},
}
SCHEMA: Schema = {**AUTHENTICATION, **REQUESTS}


class Process04Dialect(ProcessDialect):
    """See :class:`ProcessDialect`.

    As on the instance protocol, a client has to authenticate before any other request, and the server does not
    answer what it does not understand.
    """

    input_field = "arguments"

    def __init__(self, core: Core, channel: Channel, *, early_events: bool) -> None:
        super().__init__(core, channel, early_events=early_events)
        self._login = Login(core.users)

    def receive(self, message: bytes | str) -> None:
        """See :class:`Dialect`."""
        decoded = decode(message, SCHEMA) if isinstance(message, bytes) else None
        if decoded is None:
            return
        is_authenticated = self._login.username is not None
        if decoded["type"] not in AUTHENTICATION:
            if not is_authenticated:
                raise CloseConnection
        elif is_authenticated:
            self._respond(decoded, True, "Already authenticated")
            return
        self._handle(decoded)

    def lost(self, unsent: list[Output]) -> None:
        """Detach the processes of the connection. None of them ends."""
        self._core.detach(self._channel, unsent)

    @property
    def _username(self) -> str:
        username = self._login.username
        assert username is not None, "receive() checks that the client is authenticated"
        return username

    def _on_auth_identify(self, message: Message) -> None:
        self._respond_login(message, self._login.identify(message["username"]))

    def _on_auth_prove(self, message: Message) -> None:
        self._respond_login(message, self._login.prove(message["signature"]))

    def _on_auth_by_token(self, message: Message) -> None:
        answer = self._login.by_token(message["token"])
        if not answer.successful:
            self._core.closing.wait(TOKEN_REFUSAL_DELAY)
        self._respond_login(message, answer)
        if not answer.successful:
            raise CloseConnection

    def _respond_login(self, message: Message, answer: LoginAnswer) -> None:
        self._respond(message, answer.successful, answer.text)

    def _on_unknown_subject(self, message: Message, subject: str) -> None:
        """Do not answer."""
