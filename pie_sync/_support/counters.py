"""What a client counts: messages, bytes, reconnections."""

from __future__ import annotations

from dataclasses import dataclass, field

from .._texts.display import html_table, shown, shown_fields

__all__ = ["ClientStats", "Counters"]


@dataclass(frozen=True)
class ClientStats:
    """What a client has done so far: the result of :meth:`PieClient.stats`.

    Attributes:
        messages_sent: messages to the server.
        messages_received: messages from the server.
        bytes_sent: their bytes, with their WebSocket headers, without those of TLS.
        bytes_received: the same from the server, pings and pongs included.
        events_queued: how many events wait in memory to be received, by the id of their instance; those on disk
            don't count.
        spilled_bytes: how many bytes of events wait on disk (see ``max_buffered_bytes``).
        unclaimed: how many events wait in memory, for each instance whose launch was answered too late and that
            nobody has taken over yet with :meth:`PieClient.attach_instance`. Those that run are kept; of those
            that have ended the latest are, as many as take 64 MiB together.
        pending_requests: how many requests wait for their answer.
        reconnects: how often a lost connection was made again.
        last_round_trip: seconds that the last :meth:`PieClient.ping` took; None if there was none.
    """

    messages_sent: int = 0
    messages_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    events_queued: dict[str, int] = field(default_factory=dict)
    spilled_bytes: int = 0
    unclaimed: dict[str, int] = field(default_factory=dict)
    pending_requests: int = 0
    reconnects: int = 0
    last_round_trip: float | None = None

    def __repr__(self) -> str:
        return shown_fields("ClientStats", vars(self))

    def _repr_html_(self) -> str:
        return html_table((name, shown(value)) for name, value in vars(self).items())


class Counters:
    """Counters of a client's connection and of those that replace it.

    Each counter has one writer at a time: the reader thread counts what is received, the holder of the send lock
    counts what is sent.
    """

    def __init__(self) -> None:
        self.messages_sent = 0
        self.messages_received = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.reconnects = 0
        self.last_round_trip: float | None = None
