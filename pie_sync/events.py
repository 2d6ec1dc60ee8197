"""What an instance sends, and what the server tells of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar, Union, cast

from ._texts.display import beginning, html_table, shown, shown_fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from typing_extensions import TypeVar as TypeVarWithDefault

    R_co = TypeVarWithDefault("R_co", covariant=True, default=Any)
else:
    R_co = TypeVar("R_co", covariant=True)

__all__ = [
    "Blob",
    "CompletedInstance",
    "Data",
    "Event",
    "InstanceInfo",
    "InstanceList",
    "LaunchRecord",
    "QueryResult",
    "ResultForm",
]

#: What comes with an event: a blob for :attr:`Event.Blob`, else text.
Data = Union[str, "Blob"]

#: The most characters of the texts of an instance that a ``repr`` or an error repeats.
_SHORT = 60


class Event(Enum):
    """The kind of something that an instance sent.

    The values 0 to 5 are the numbers of the wire protocol; 6 to 8 are the client API's own, for what the
    server sends in messages of another type (protocol: ``download_blob``, ``streaming_output``).

    Attributes:
        terminal: True for the five kinds after which nothing more comes.
    """

    Message = 0  #: text that the program sent with its ``send``
    Completed = 1  #: the program ended by itself; the text is its result
    Aborted = 2  #: the instance was terminated
    Exception = 3  #: the program failed; the text says how
    ServerError = 4  #: the server failed, or has lost the end of the instance
    OutOfResources = 5  #: the server ran out of something that the instance needed
    Blob = 6  #: bytes that the program sent
    Stdout = 7  #: text that the program printed
    Stderr = 8  #: text that the program printed to its standard error

    terminal: bool

    def __init__(self, code: int) -> None:
        # A plain attribute, not a property: it is read for every event that arrives.
        self.terminal = 1 <= code <= 5


class Blob(bytes):
    """Bytes that an instance sent: the data of an :attr:`Event.Blob`. They are plain ``bytes``, with a name.

    Attributes:
        name: what the program calls it, or None. **It comes from outside**: don't make a path of it; that's
            what :meth:`save` is for. (Process protocol: the field ``name`` of ``file``; the instance protocol
            has no names.)
    """

    name: str | None

    def __new__(cls, data: bytes | bytearray = b"", name: str | None = None) -> Blob:
        """Make a blob of bytes."""
        self = super().__new__(cls, data)
        self.name = name
        return self

    def __reduce__(self) -> tuple[type[Blob], tuple[bytes, str | None]]:
        return Blob, (bytes(self), self.name)

    def save(self, directory: str | os.PathLike[str], default_name: str = "blob.bin") -> Path:
        """Write it to a new file in ``directory``, under its own name as far as that is harmless.

        Only the last part of the name counts, without control characters, and never more than 200 bytes of it;
        so nothing is ever written outside the directory. An existing file is not overwritten: the new one gets
        a number, as in ``image-1.png``. Thread-safe, also between processes.

        Args:
            directory: where to write. It is created if need be.
            default_name: the name of a file that has none.

        Returns:
            The path of the file.

        Raises:
            OSError: it can't be written.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(_harmless(self.name or "") or default_name)
        number = 0
        while True:
            path = folder / (f"{name.stem}-{number}{name.suffix}" if number else name.name)
            try:
                # "x": fails if there is such a file, or link, rather than to follow it.
                with open(path, "xb") as file:
                    file.write(self)
            except FileExistsError:
                number += 1
            else:
                return path


def _harmless(name: str) -> str:
    """Return what may be used of a name as the name of a file in any system; perhaps nothing."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    # Colons make drives and streams on Windows, leading dots hidden files, and dots alone directories.
    kept = "".join(char for char in last if char.isprintable() and char not in ':*?"<>|').strip(" .")
    stem, dot, suffix = kept.rpartition(".")
    if not dot:
        stem, suffix = kept, ""
    room = 200 - len(suffix.encode()[:50])
    cut = stem.encode()[:room].decode(errors="ignore") + dot + suffix.encode()[:50].decode(errors="ignore")
    # Names that mean a device on Windows, whatever their ending.
    device = cut.split(".")[0].upper()
    if device in {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}:
        return "_" + cut
    return cut


class ResultForm(Enum):
    """The form in which a program sends its result."""

    JSON = "JSON"  #: nothing stands for None
    TEXT = "text"
    TEXT_OR_NONE = "text or None"  #: nothing stands for None
    JSON_OR_TEXT = "JSON or text"  #: what is no JSON is a text


class LaunchRecord(NamedTuple):
    """What a client knows of an instance that it has launched itself."""

    input: list[str] | Mapping[str, Any]
    """The arguments, as the user gave them."""
    began: float
    """When the launch was requested, by ``time.monotonic()``."""
    result_form: ResultForm = ResultForm.JSON
    """The form of the program's result."""


@dataclass(frozen=True, repr=False)
class CompletedInstance(Generic[R_co]):
    """All that an instance sent, after its end: what :meth:`PieClient.run` and :meth:`Instance.wait` return.

    Two are equal if the instances have sent the same.

    Attributes:
        event: how it ended: a terminal :class:`Event`.
        message: the text of that event: the program's result, or the reason why there is none.
        stdout: everything that it printed.
        stderr: everything that it printed to its standard error.
        messages: the texts that it sent, in order.
        blobs: the bytes that it sent, in order.
        id: the instance's UUID.
        input: the arguments that it was launched with; None if this client did not launch it.
        elapsed: seconds from the request to launch it to its end; None if this client did not launch it.
    """

    event: Event
    message: str
    stdout: str = ""
    stderr: str = ""
    messages: tuple[str, ...] = ()
    blobs: tuple[Blob, ...] = ()
    id: str = field(default="", compare=False)
    input: list[str] | Mapping[str, Any] | None = field(default=None, compare=False)
    elapsed: float | None = field(default=None, compare=False)
    _result_form: ResultForm = field(default=ResultForm.JSON, compare=False)

    def _repr_html_(self) -> str:
        fields: dict[str, Any] = {**vars(self), "event": self.event.name}
        given = {
            name: value
            for name, value in fields.items()
            if value not in (None, "", ()) and not name.startswith("_")
        }
        return html_table(
            (name, beginning(value) if isinstance(value, str) else shown(value)) for name, value in given.items()
        )

    @classmethod
    def from_events(
        cls,
        events: Iterable[tuple[Event, Data]],
        instance_id: str = "",
        launch: LaunchRecord | None = None,
        ended: float | None = None,
    ) -> CompletedInstance[Any]:
        """Collect the events of one instance, its terminal event included.

        A batch of short instances does little else, so it is made for speed.

        Args:
            events: the events; the last one is the terminal one.
            instance_id: whose they are.
            launch: what is known of its launch.
            ended: when its end came, by ``time.monotonic()``. Default: now.
        """
        *sent, (terminal, message) = events
        assert terminal.terminal
        stdout, stderr, messages, blobs = _by_kind(sent) if sent else ("", "", (), ())
        elapsed = None
        if launch is not None:
            elapsed = (monotonic() if ended is None else ended) - launch.began
        completed: CompletedInstance[Any] = object.__new__(cls)
        # What __init__ does: that takes a call for each field of a frozen dataclass, three times as long in all.
        fields = {
            "event": terminal,
            "message": message,
            "stdout": stdout,
            "stderr": stderr,
            "messages": messages,
            "blobs": blobs,
            "id": instance_id,
            "input": None if launch is None else launch.input,
            "elapsed": elapsed,
            "_result_form": ResultForm.JSON if launch is None else launch.result_form,
        }
        object.__setattr__(completed, "__dict__", fields)
        return completed

    @property
    def ok(self) -> bool:
        """Whether the instance has ``Completed``."""
        return self.event is Event.Completed

    @property
    def value(self) -> R_co:
        """What the program returned: its result, decoded from JSON; None for an empty result.

        A function that is annotated ``-> str`` gives its text as it is. (Pie 0.5 sends a string without quotes,
        so that of a function without that annotation is taken for JSON, too. With ``-> str | int`` and the like,
        a string that is no JSON stays one.)

        Raises:
            ValueError: the result is not JSON, or the instance has not ``Completed``; the text tells the result.
        """
        value: Any
        if not self.ok:
            raise ValueError(
                f"there is no value: the instance ended with {self.event.name}: {_shown(self.message)}"
            )
        if self._result_form is ResultForm.TEXT:
            value = self.message
        elif not self.message:
            value = None
        elif self._result_form is ResultForm.TEXT_OR_NONE:
            value = self.message
        else:
            try:
                value = json.loads(self.message)
            except (ValueError, RecursionError) as error:
                if self._result_form is ResultForm.JSON_OR_TEXT:
                    return cast("R_co", self.message)
                raise ValueError(
                    f"the result is not JSON: {_shown(self.message)}; .message has it as text, and if the function"
                    " is annotated -> str, so has .value"
                ) from error
        result: R_co = value
        return result

    def __repr__(self) -> str:
        parts = [self.event.name, f"message={_shown(self.message)}"]
        printed = {"stdout": self.stdout, "stderr": self.stderr}
        parts += [f"{name}: {len(text)} characters" for name, text in printed.items() if text]
        if self.messages:
            parts.append(f"{len(self.messages)} messages")
        if self.blobs:
            parts.append(f"{len(self.blobs)} blobs of {sum(map(len, self.blobs))} bytes")
        if self.elapsed is not None:
            parts.append(f"{self.elapsed:.3f} s")
        return f"<CompletedInstance{self.id and ' '}{self.id[:36]} {', '.join(parts)}>"


def _shown(text: str) -> str:
    """Return a text in quotes, in part if it is long."""
    shown = repr(text if len(text) <= _SHORT else text[:_SHORT])
    if len(text) <= _SHORT and len(shown) <= _SHORT:
        return shown
    return f"{shown[: _SHORT // 2]}... ({len(text)} characters)"


@dataclass(frozen=True)
class InstanceInfo:
    """One line of :meth:`PieClient.list_instances`.

    Attributes:
        id: the instance's UUID.
        arguments: what it was launched with.
        status: ``"Attached"``, ``"Detached"`` or ``"Finished"``; None where the server does not say.
        username: whose it is; None where the server does not say.
        elapsed_secs: seconds since its launch; None where the server does not say.
        kv_pages_used: pages of key-value cache that it holds; None where the server does not say.
        program: what was launched, as ``name@version``; None where the server does not say.

    The process protocol tells neither status nor pages; its ``arguments`` are one JSON text.
    """

    id: str
    arguments: tuple[str, ...] = ()
    status: str | None = None
    username: str | None = None
    elapsed_secs: float | None = None
    kv_pages_used: int | None = None
    program: str | None = None

    def __repr__(self) -> str:
        return shown_fields("InstanceInfo", vars(self))


class InstanceList(list[InstanceInfo]):
    """What :meth:`PieClient.list_instances` returns: a list that shows itself as a table in notebooks."""

    def __repr__(self) -> str:
        return f"[{(',' + chr(10) + ' ').join(map(repr, self))}]"

    def _repr_html_(self) -> str:
        rows = [vars(info) for info in self]
        # What the server says of no instance is left out.
        names = [
            name for name in InstanceInfo.__dataclass_fields__ if any(row[name] not in (None, ()) for row in rows)
        ]
        cells = [[_cell(row[name]) for name in names] for row in rows]
        return html_table(cells, names)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return " ".join(value) if isinstance(value, tuple) else str(value)


class QueryResult(NamedTuple):
    """The answer to :meth:`PieClient.query`."""

    successful: bool
    """Whether the server could answer."""
    result: str
    """The answer, or the reason why there is none."""


def _by_kind(events: Iterable[tuple[Event, Data]]) -> tuple[str, str, tuple[str, ...], tuple[Blob, ...]]:
    """Return what an instance has sent before its end: its two outputs, its messages and its blobs."""
    stdout: list[str] = []
    stderr: list[str] = []
    messages: list[str] = []
    blobs: list[Blob] = []
    for event, data in events:
        if isinstance(data, bytes):
            blobs.append(data)
        elif event is Event.Message:
            messages.append(data)
        elif event is Event.Stdout:
            stdout.append(data)
        else:
            stderr.append(data)
    return "".join(stdout), "".join(stderr), tuple(messages), tuple(blobs)
