"""What a server keeps of the output of a detached instance."""

from __future__ import annotations

from collections.abc import Iterable

from ...events import Event

__all__ = ["KeptOutput"]

STREAM_SIZE = 1024 * 1024  # bytes


class KeptOutput:
    """The last 1 MiB of standard output, the same of standard error, and the end. Messages and blobs are dropped.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._streams = {Event.Stdout: b"", Event.Stderr: b""}
        self._new: dict[Event, list[bytes]] = {Event.Stdout: [], Event.Stderr: []}
        self._new_size = 0
        self._end: tuple[Event, str] | None = None

    def add(self, event: Event, data: str | bytes) -> None:
        """Keep an output, or drop it."""
        if event.terminal:
            self._end = event, str(data)
        elif isinstance(data, str) and event in self._new:
            encoded = data.encode(errors="replace")
            self._new[event].append(encoded)
            self._new_size += len(encoded)
            if self._new_size > STREAM_SIZE:
                self._compact()

    def prepend(self, outputs: Iterable[tuple[Event, str | bytes]]) -> None:
        """Keep outputs that came before all others."""
        before = KeptOutput()
        for event, data in outputs:
            before.add(event, data)
        before._compact()
        self._compact()
        for event, stream in before._streams.items():
            self._streams[event] = (stream + self._streams[event])[-STREAM_SIZE:]
        self._end = self._end or before._end

    def take(self) -> list[tuple[Event, str]]:
        """Return what was kept, one event for each stream, and forget it.

        A character that lost a part of its bytes becomes U+FFFD.
        """
        self._compact()
        taken = [(event, stream.decode(errors="replace")) for event, stream in self._streams.items() if stream]
        if self._end is not None:
            taken.append(self._end)
        self._streams = dict.fromkeys(self._streams, b"")
        self._end = None
        return taken

    def __bool__(self) -> bool:
        return bool(self._end or self._new_size or any(self._streams.values()))

    def _compact(self) -> None:
        for event, new in self._new.items():
            self._streams[event] = b"".join([self._streams[event], *new])[-STREAM_SIZE:]
            new.clear()
        self._new_size = 0
