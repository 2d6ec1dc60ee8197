"""The process protocol of Pie 0.3 and 0.4: requires authentication, and ignores what it does not understand."""

from __future__ import annotations

from .._programs.instance import Instance, Output
from .._server.channel import Channel
from .._server.core import Core
from .._server.users import Login, LoginAnswer
from .installed import ProgramRules
from .process import ATTACHED, NOT_FOUND, REQUESTS, TERMINATED, Message, ProcessDialect
from .schema import Schema, decode, is_str, is_uint32

__all__ = ["Process04Dialect"]

TOKEN_REFUSAL_DELAY = 1.0  # seconds
NOT_PERMITTED = "Permission denied"

AUTHENTICATION: Schema = {
    "auth_identify": {"corr_id": is_uint32, "username": is_str},
    "auth_prove": {"corr_id": is_uint32, "signature": is_str},
    "auth_by_token": {"corr_id": is_uint32, "token": is_str},
}
SCHEMA: Schema = {**AUTHENTICATION, **REQUESTS}


class Process04Dialect(ProcessDialect):
    """See :class:`ProcessDialect`.

    A client has to authenticate before any other request. Otherwise the server ignores it, as it ignores what it
    does not understand; it never hangs up.

    Args:
        core: the state of the server.
        channel: takes the answers, and the output of attached processes.
        rules: how programs are named and installed.
    """

    def __init__(self, core: Core, channel: Channel, *, rules: ProgramRules) -> None:
        super().__init__(core, channel, rules=rules, early_events=False)
        self._login = Login(core.users)

    def receive(self, message: bytes | str) -> None:
        """See :class:`Dialect`."""
        decoded = decode(message, SCHEMA) if isinstance(message, bytes) else None
        if decoded is None:
            return
        is_authenticated = self._login.username is not None
        if decoded["type"] not in AUTHENTICATION:
            if is_authenticated:
                self._handle(decoded)
        elif is_authenticated:
            self._respond(decoded, decoded["type"] != "auth_prove", "Already authenticated")
        else:
            self._handle(decoded)

    def lost(self, unsent: list[Output]) -> None:
        """Leave the processes bound to this connection: listed, but nobody can attach to them any more."""

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

    def _respond_login(self, message: Message, answer: LoginAnswer) -> None:
        self._respond(message, answer.successful, answer.text)

    def _on_unknown_subject(self, message: Message, subject: str) -> None:
        """Do not answer."""

    def _attach(self, message: Message, process: Instance) -> None:
        if process.username != self._username:
            self._respond(message, False, NOT_PERMITTED)
        elif not process.attach(self._channel, lambda: self._respond(message, True, ATTACHED)):
            self._respond(message, False, NOT_FOUND)

    def _terminate(self, message: Message, process: Instance) -> None:
        if process.username != self._username:
            self._respond(message, False, NOT_PERMITTED)
        else:
            self._core.terminate(process, lambda: self._respond(message, True, TERMINATED))
