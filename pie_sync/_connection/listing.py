"""The server's list of instances, and what it is needed for: finding one that was launched detached.

On the process protocol the answer to a detached launch does not tell the id of what it launched.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from typing import TYPE_CHECKING

from .._protocol.messages import BadMessage
from ..errors import LaunchError, ProtocolError, RequestError

if TYPE_CHECKING:
    from .._session.session import Session
    from .._support.time_limits import Limit
    from ..events import InstanceInfo

__all__ = ["find_detached", "list_instances", "new_tag"]

_TAG_SIZE = 64
_TAG = re.compile(rf"[ \t]{{{_TAG_SIZE}}}\Z")


def new_tag() -> str:
    """Return white space that no other launch has: 64 random bits, a space or a tab each.

    Behind the JSON text of a launch's arguments it means nothing. But the server's list of processes repeats
    that text to the letter, so that two launches of the same program with the same arguments at the same moment
    can be told apart.
    """
    return "".join(" \t"[bit == "1"] for bit in f"{secrets.randbits(_TAG_SIZE):0{_TAG_SIZE}b}")


def list_instances(session: Session, limit: Limit) -> list[InstanceInfo]:
    """Return the list, with the arguments as they were given."""
    return [
        dataclasses.replace(info, arguments=tuple(_TAG.sub("", text) for text in info.arguments))
        for info in _fetch(session, "list_instances", limit, RequestError)
    ]


def find_detached(session: Session, method: str, tag: str, limit: Limit) -> str:
    """Return the id of the instance that was launched with ``tag``.

    Raises:
        LaunchError: the list does not have it: it has ended already.
        ProtocolError: the list makes no sense.
        PieTimeoutError: no answer in time.
        PieConnectionError: the connection is lost.
    """
    for info in _fetch(session, method, limit, LaunchError):
        if any(text.endswith(tag) for text in info.arguments):
            return info.id
    raise LaunchError(
        method,
        "the instance was launched detached and has ended before its id could be found: this server tells it only"
        " in the list of running processes; launch it attached to get its output",
    )


def _fetch(session: Session, method: str, limit: Limit, refused: type[RequestError]) -> tuple[InstanceInfo, ...]:
    protocol = session.protocol
    answer = session.call(method, protocol.list, limit, kind=protocol.list_answer, refused=refused)
    try:
        return protocol.instances(answer)
    except BadMessage as error:
        raise ProtocolError(f"the server sent {error}") from error
