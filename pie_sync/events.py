"""What an instance sends, and what the server tells of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Union

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Blob", "CompletedInstance", "Data", "Event", "InstanceInfo", "QueryResult"]

#: What comes with an event: bytes for :attr:`Event.Blob`, else text.
Data = Union[str, bytes]


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


@dataclass(frozen=True)
class CompletedInstance:
    """All that an instance sent, after its end: what :meth:`Instance.wait` returns.

    Attributes:
        event: how it ended: a terminal :class:`Event`.
        message: the text of that event: the program's result, or the reason why there is none.
        stdout: everything that it printed.
        stderr: everything that it printed to its standard error.
        messages: the texts that it sent, in order.
        blobs: the bytes that it sent, in order.
    """

    event: Event
    message: str
    stdout: str = ""
    stderr: str = ""
    messages: tuple[str, ...] = ()
    blobs: tuple[bytes, ...] = ()

    @classmethod
    def from_events(cls, events: Iterable[tuple[Event, Data]]) -> CompletedInstance:
        """Collect the events of one instance, its terminal event included.

        One pass over all of them: a batch of short instances does little else.
        """
        stdout: list[str] = []
        stderr: list[str] = []
        messages: list[str] = []
        blobs: list[bytes] = []
        terminal = None
        for event, data in events:
            if isinstance(data, bytes):
                blobs.append(data)
            elif event is Event.Message:
                messages.append(data)
            elif event is Event.Stdout:
                stdout.append(data)
            elif event is Event.Stderr:
                stderr.append(data)
            else:
                terminal = event, data
        assert terminal is not None
        return cls(*terminal, "".join(stdout), "".join(stderr), tuple(messages), tuple(blobs))


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


class QueryResult(NamedTuple):
    """The answer to :meth:`PieClient.query`."""

    successful: bool
    """Whether the server could answer."""
    result: str
    """The answer, or the reason why there is none."""
