"""The process protocol of Pie 0.5: a gateway authenticates the clients, and some messages are text frames.

Its behaviour is that of a real server of Pie 0.5.2.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from .._programs.instance import Instance, Output
from .._server.channel import Channel
from .._server.core import Core
from .._server.users import INTERNAL_USERNAME
from .installed import PROGRAM_RULES
from .process import ATTACHED, REQUESTS, TERMINATED, Message, ProcessDialect, encode_output
from .schema import BadFrameError, Schema, is_str, is_uint32, parse

__all__ = ["Process05Dialect", "check_upgrade", "encode_output_with_turn_done"]

PATH = "/v1/ws"
IDENTITY_HEADER = "x-pie-identity"

SCHEMA: Schema = {
    "auth_identify": {"corr_id": is_uint32, "username": is_str},
    "auth_prove": {"corr_id": is_uint32, "signature": is_str},
    **REQUESTS,
}
ALREADY_AUTHENTICATED = "Already authenticated"

TURN_DONE = '{"type":"turn_done"}'

#: Requests whose turn ends with the process. If they are refused, no end of the turn is sent.
ENDED_BY_THE_PROCESS = ("launch_process", "attach_process")


def check_upgrade(path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
    """Return the HTTP status and text with which to refuse an upgrade request, or None to accept it."""
    if path != PATH:
        return 404, ""
    identity = headers.get(IDENTITY_HEADER)
    if identity is None:
        return 401, f"identity: missing `{IDENTITY_HEADER}` (edge must inject verified identity)"
    if not identity.strip():
        return 401, f"identity: empty `{IDENTITY_HEADER}`"
    return None


def encode_output_with_turn_done(output: Output) -> Iterator[bytes | str]:
    """Yield the messages for an output, and after a terminal event the end of the turn."""
    yield from encode_output(output, names_files=True)
    if output.event.terminal:
        yield TURN_DONE


class Process05Dialect(ProcessDialect):
    """See :class:`ProcessDialect`.

    All clients are the same user, without authentication. Messages may also be JSON in text frames.
    """

    _username = INTERNAL_USERNAME

    def __init__(self, core: Core, channel: Channel, *, early_events: bool) -> None:
        super().__init__(core, channel, rules=PROGRAM_RULES["0.5"], early_events=early_events)
        # Processes that this connection tried to attach. As with 0.5.2, they end with it even if it was refused.
        self._claimed: list[Instance] = []

    def receive(self, message: bytes | str) -> None:
        """See :class:`Dialect`."""
        try:
            decoded = parse(message, SCHEMA)
        except BadFrameError as error:
            text = {"type": "error", "message": f"bad client frame: {error}"}
            self._channel.answer(json.dumps(text, separators=(",", ":")))
            return
        self._handle(decoded)
        if decoded["type"] not in ENDED_BY_THE_PROCESS:
            self._channel.answer(TURN_DONE)

    def lost(self, unsent: list[Output]) -> None:
        """End the processes of the connection. Unsent output is dropped, since no client could get it."""
        for process in [*self._core.attached_to(self._channel), *self._claimed]:
            self._core.terminate(process)

    def _attach(self, message: Message, process: Instance) -> None:
        self._claimed.append(process)
        if not process.attach(self._channel, lambda: self._respond(message, True, ATTACHED)):
            self._respond(message, False, "Cannot attach: already attached")

    def _terminate(self, message: Message, process: Instance) -> None:
        self._core.terminate(process)
        self._respond(message, True, TERMINATED)

    def _on_auth_identify(self, message: Message) -> None:
        self._respond(message, True, ALREADY_AUTHENTICATED)

    def _on_auth_prove(self, message: Message) -> None:
        self._respond(message, False, ALREADY_AUTHENTICATED)

    def _on_unknown_subject(self, message: Message, subject: str) -> None:
        self._respond(message, False, f'unknown query subject "{subject}" (known: model_status)')
