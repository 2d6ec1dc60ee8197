"""The process protocol of Pie 0.5: behind a gateway that says who is there, and with text frames beside the rest.

What a real 0.5.2 was seen to do, this does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from .._programs.instance import Instance, Output
from .._server.channel import Channel
from .._server.channel import Message as Frame
from .._server.core import Core
from .._server.users import INTERNAL_USERNAME
from .process import REQUESTS, Message, ProcessDialect, encode_output
from .schema import BadFrameError, Schema, is_text, is_uint32, parse

__all__ = ["Process05Dialect", "admit", "encode_with_turns"]

PATH = "/v1/ws"
IDENTITY_HEADER = "x-pie-identity"

SCHEMA: Schema = {
    "auth_identify": {"corr_id": is_uint32, "username": is_text},
    "auth_prove": {"corr_id": is_uint32, "signature": is_text},
    **REQUESTS,
}
ALREADY_AUTHENTICATED = "Already authenticated"

TURN_DONE = '{"type":"turn_done"}'

#: Their turn is done when the process has ended; when they are refused, nothing is said about it.
LONG_TURNS = ("launch_process", "attach_process")


def admit(path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
    """Say how to refuse an upgrade: the HTTP status and text, or None to grant it."""
    if path != PATH:
        return 404, ""
    identity = headers.get(IDENTITY_HEADER)
    if identity is None:
        return 401, f"identity: missing `{IDENTITY_HEADER}` (edge must inject verified identity)"
    if not identity.strip():
        return 401, f"identity: empty `{IDENTITY_HEADER}`"
    return None


def encode_with_turns(output: Output) -> Iterator[Frame]:
    """Yield the messages that tell of an output, and that a turn is done with the last one."""
    yield from encode_output(output)
    if output.event.terminal:
        yield TURN_DONE


class Process05Dialect(ProcessDialect):
    """See :class:`ProcessDialect`.

    Everybody is let in, as one and the same user. A message may also come as JSON, in a text frame.
    """

    _username = INTERNAL_USERNAME

    def __init__(self, core: Core, channel: Channel, *, early_events: bool) -> None:
        super().__init__(core, channel, early_events=early_events)
        # What this connection was refused to attach to: it ends with the connection all the same, as with 0.5.2.
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
        if decoded["type"] not in LONG_TURNS:
            self._channel.answer(TURN_DONE)

    def lost(self, unsent: list[Output]) -> None:
        """End what is attached; nobody could get what is unsent."""
        for process in [*self._core.attached_to(self._channel), *self._claimed]:
            self._core.terminate(process)

    def _attach(self, message: Message, process: Instance) -> None:
        self._claimed.append(process)
        super()._attach(message, process)

    def _on_auth_identify(self, message: Message) -> None:
        self._respond(message, True, ALREADY_AUTHENTICATED)

    def _on_auth_prove(self, message: Message) -> None:
        self._respond(message, False, ALREADY_AUTHENTICATED)

    def _on_unknown_subject(self, message: Message, subject: str) -> None:
        self._respond(message, False, f'unknown query subject "{subject}" (known: model_status)')
