"""From what an instance has sent to a :class:`CompletedInstance`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..events import Event
from ..instance import CompletedInstance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._session.event_queue import Item

__all__ = ["complete"]


def complete(items: Iterable[Item]) -> CompletedInstance:
    """Return all that an instance has sent, the terminal event included.

    In one pass: a batch of short instances does little else.
    """
    stdout: list[str] = []
    stderr: list[str] = []
    messages: list[str] = []
    blobs: list[bytes] = []
    terminal = None
    for event, data in items:
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
    return CompletedInstance(*terminal, "".join(stdout), "".join(stderr), tuple(messages), tuple(blobs))
