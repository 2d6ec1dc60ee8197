"""The process protocol: Pie 0.3, 0.4 and 0.5. An instance is called a process here, a blob a file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..events import Event, InstanceInfo
from . import arguments
from .generation import Generation, LaunchEncoder, Names, chunk_decoder
from .messages import (
    Abort,
    Answer,
    BadMessage,
    Decoded,
    Decoder,
    InstanceList,
    MessageTemplate,
    Notice,
    Refusal,
    answer_decoder,
    around_id,
    optional,
    pack,
    pack_chunk_head,
    typed,
)
from .program_names import ProgramName, content_version, manifest_of

__all__ = ["DECODERS", "ProcessProtocol", "decode_text"]

_EVENTS = {
    "stdout": Event.Stdout,
    "stderr": Event.Stderr,
    "message": Event.Message,
    "return": Event.Completed,
    "error": Event.Exception,
}

#: The messages of events up to their texts, around the id of the process. Not of the end: there's only one, and
#: its text may change what it is.
_PREFIXES = {
    event: around_id({"type": "process_event", "process_id": "", "event": kind, "value": ""}, "process_id")
    for kind, event in _EVENTS.items()
    if not event.terminal
}

#: The text of the ``error`` event of a process that was terminated.
_TERMINATED = "Signal"


#: What 0.5.2 tells every client, once for each of its processes, after an event that was too long for it: nothing
#: more comes of any of them, nor of what is launched later on the same connection (measured).
_STREAM_ABORTED = "stream aborted"


#: What this generation calls things.
NAMES = Names(
    identify="auth_identify",
    prove="auth_prove",
    internal="auth_by_token",
    attach="attach_process",
    list="list_processes",
    terminate="terminate_process",
    signal="signal_process",
    blob_chunk="transfer_file",
    instance_id="process_id",
    blob_hash="file_hash",
)


class ProcessProtocol(Generation):
    """Encodes requests and decodes what the server says. Stateless."""

    name = "process"
    names = NAMES
    launch_answer = attach_answer = list_answer = "response"
    confirms_blobs = False
    already_attached = "Cannot attach: already attached"
    not_found = "Process not found"
    refuses_attach_without_harm = False
    writes_with_delay = False
    prefixes = _PREFIXES
    message_prefix = _PREFIXES[Event.Message]

    #: The refusal to terminate, or to attach to, a process that has ended.
    NO_SUCH_PROCESS = not_found

    # --- requests ---------------------------------------------------------------------------------------

    @staticmethod
    def content_name(program_hash: str, *, named: bool = False) -> ProgramName:
        """Return the name and version that a hash makes; see :class:`Programs` for the two names.

        Args:
            program_hash: of the bytes that the user gave.
            named: whether they were given with a manifest.
        """
        return ProgramName("pie-sync-named" if named else "pie-sync", content_version(program_hash))

    def named_program_exists(self, corr_id: int, program: ProgramName) -> bytes:
        """Ask for a program by its name and version."""
        return pack(
            {"type": "check_program", "corr_id": corr_id, "name": program.name, "version": program.version}
        )

    def program_chunk(
        self,
        corr_id: int,
        program_hash: str,
        index: int,
        total: int,
        size: int,
        *,
        manifest: str | None = None,
        overwrite: bool = False,
    ) -> bytes:
        """Return the head of one chunk of a program; its ``size`` bytes follow.

        Args:
            corr_id: the correlation id, the same for all chunks.
            program_hash: of the whole program.
            index: which chunk.
            total: how many there are.
            size: how many bytes follow.
            manifest: TOML with the program's name and version; None makes one of its hash.
            overwrite: replace a program of that name. Without it, a taken name makes the server say yes and do
                nothing (protocol: ``add_program``).
        """
        return pack_chunk_head(
            {
                "type": "add_program",
                "corr_id": corr_id,
                "program_hash": program_hash,
                "manifest": manifest_of(self.content_name(program_hash)) if manifest is None else manifest,
                "force_overwrite": overwrite,
                "chunk_index": index,
                "total_chunks": total,
            },
            size,
        )

    def launch(
        self,
        corr_id: int,
        program_hash: str,
        program: ProgramName,
        args: Sequence[str] | Mapping[str, Any],
        detached: bool,
        *,
        tag: str = "",
    ) -> bytes:
        """Launch a program; see :meth:`launch_from_registry`, which is the same here."""
        return self.launch_from_registry(corr_id, str(program), args, detached, tag=tag)

    def launch_from_registry(
        self,
        corr_id: int,
        name: str,
        args: Sequence[str] | Mapping[str, Any],
        detached: bool,
        *,
        tag: str = "",
    ) -> bytes:
        """Launch a program.

        Args:
            corr_id: the correlation id.
            name: ``name[@version]``.
            args: its arguments.
            detached: don't send its output. The answer then has no id.
            tag: white space to add to the JSON of the arguments. It means nothing to JSON, but the server's list
                of processes repeats the text to the letter: so a launch can be told from all others.
        """
        message = _launch(corr_id, name, detached)
        message["input"] = arguments.as_json(args) + tag
        return pack(message)

    def launch_encoder(self, program_hash: str | None, name: str) -> LaunchEncoder:
        """See :meth:`Generation.launch_encoder`."""
        encode = MessageTemplate(_launch(0, name, False), "input").encode
        return lambda corr_id, args: encode(corr_id, arguments.as_json(args))

    def farewell(self, corr_id: int, *, is_authenticated: bool) -> bytes:
        """Encode a request that makes the server write something after the close frame has come.

        Servers up to 0.4 write their close frame only together with something else, and else keep the socket for
        ever. Before authentication they answer nothing but its messages.
        """
        return self.ping(corr_id) if is_authenticated else self.prove(corr_id, "")

    # --- what the server says ---------------------------------------------------------------------------

    def decode_text(self, text: str) -> Notice | Refusal | Abort | None:
        """Decode one text message; see :func:`decode_text`."""
        return decode_text(text)

    def instances(self, answer: Answer | InstanceList) -> tuple[InstanceInfo, ...]:
        """Return what a granted request for the list says.

        Raises:
            BadMessage: the list is malformed.
        """
        assert isinstance(answer, Answer)
        try:
            entries = json.loads(answer.text)
            if type(entries) is not list:  # else an empty map would be a list of nothing
                raise TypeError
            return tuple(map(_instance_info, entries))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadMessage("a list of processes that makes no sense") from None


def decode_text(text: str) -> Notice | Refusal | Abort | None:
    """Decode one text message. Only 0.5 sends any: JSON, of two types.

    Returns:
        None for what means nothing to a client: ``turn_done``, sent after everything that it did for us.
    """
    try:
        message = json.loads(text)
        kind = message["type"]
        if kind == "turn_done":
            return None
        if kind == "error":
            error = typed(message, "message", str)
            if error.startswith("bad client frame"):
                return Refusal(error)
            return Abort(error) if error == _STREAM_ABORTED else Notice(error)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return Notice(f"(as text) {text}")


def _process_event(message: dict[str, Any]) -> Decoded:
    text = message.get("value", "")
    if type(text) is not str:
        raise TypeError
    event = _EVENTS[message["event"]]
    if event is Event.Exception and text == _TERMINATED:
        event = Event.Aborted
    return message["process_id"], event, text


def _launch(corr_id: int, name: str, detached: bool) -> dict[str, Any]:
    """Return the message that launches a program."""
    return {
        "type": "launch_process",
        "corr_id": corr_id,
        "inferlet": name,
        "input": "",
        "capture_outputs": not detached,
    }


def _instance_info(fields: Any) -> InstanceInfo:
    if not isinstance(fields, dict):
        raise TypeError
    text = optional(fields, "input", str)
    if text is None:
        # 0.3 and 0.4 call it "arguments".
        given = optional(fields, "arguments", (str, list))
        text = given if given is None or isinstance(given, str) else " ".join(map(str, given))
    return InstanceInfo(
        id=typed(fields, "id", str),
        arguments=(text,) if text else (),
        username=optional(fields, "username", str),
        elapsed_secs=optional(fields, "elapsed_secs", (int, float)),
        program=optional(fields, "program", str),
    )


DECODERS: dict[str, Decoder] = {
    "response": answer_decoder("ok", "result"),
    "process_event": _process_event,
    "file": chunk_decoder(NAMES),
}

ProcessProtocol.decoders = DECODERS
