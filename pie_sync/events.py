"""What an instance sends, and what the server tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

__all__ = ["Event", "InstanceInfo", "QueryResult"]


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
    ServerError = 4  #: the server failed
    OutOfResources = 5  #: the server ran out of something that the instance needed
    Blob = 6  #: bytes that the program sent
    Stdout = 7  #: text that the program printed
    Stderr = 8  #: text that the program printed to its standard error

    terminal: bool

    def __init__(self, code: int) -> None:
        # A plain attribute, not a property: it is read for every event that arrives.
        self.terminal = 1 <= code <= 5


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
    """

    id: str
    arguments: tuple[str, ...] = ()
    status: str | None = None
    username: str | None = None
    elapsed_secs: float | None = None
    kv_pages_used: int | None = None


class QueryResult(NamedTuple):
    """The answer to :meth:`PieClient.query`."""

    successful: bool
    """Whether the server could answer."""
    result: str
    """The answer, or the reason why there is none."""
