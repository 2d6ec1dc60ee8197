"""Requests about instances: attach, terminate, list, and finding one that was launched detached.

On the process protocol the answer to a detached launch does not tell the id of what it launched; the list does.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from typing import TYPE_CHECKING

from .._protocol.messages import BadMessage
from .._session.unclaimed import Attachment
from ..errors import AttachError, LaunchError, ProtocolError, RequestError, TerminateError
from ..events import InstanceList

if TYPE_CHECKING:
    from .._protocol.messages import Answer
    from .._session.event_queue import EventQueue
    from .._session.session import Session
    from .._support.time_limits import TimeLimit
    from ..events import InstanceInfo

__all__ = ["HAS_ENDED", "attach", "find_detached", "list_instances", "new_tag", "terminate"]

#: The reason of a :exc:`LaunchError`, though the launch succeeded: nobody can tell the id.
HAS_ENDED = (
    "the instance was launched detached and has ended before its id could be found: this server tells it only in"
    " the list of running processes; launch it attached to get its output"
)

_TAG_SIZE = 64
_TAG = re.compile(rf"[ \t]{{{_TAG_SIZE}}}\Z")


def attach(session: Session, instance_id: str, limit: TimeLimit, events: EventQueue | None = None) -> EventQueue:
    """Attach to an instance. Blocks until the server has answered.

    Args:
        session: the connection to attach it to.
        instance_id: which instance.
        limit: how long that may take.
        events: the queue that the instance had on an earlier connection; None makes a new one.

    Returns:
        The queue.

    Raises:
        AttachError: the server refused.
        PieTimeoutError, PieConnectionError, ProtocolError: see :meth:`Session.call`.
    """
    router = session.router
    attachment = Attachment(router.unclaimed)

    def on_success(_: Answer) -> None:
        queue = router.add_instance(instance_id, events)
        if events is None:
            attachment.arrive(instance_id, queue)

    router.expect_instance(instance_id)
    try:
        session.call(
            "attach_instance",
            lambda corr_id: session.protocol.attach(corr_id, instance_id),
            limit,
            kind=session.protocol.attach_answer,
            on_success=on_success,
            refused=AttachError,
        )
    except BaseException:
        attachment.give_up()
        raise
    return attachment.events if events is None else events


def terminate(session: Session, instance_id: str, limit: TimeLimit) -> None:
    """Terminate an instance. Blocks until the server has answered.

    Raises:
        TerminateError: the server refused.
        PieTimeoutError, PieConnectionError: see :meth:`Session.call`.
    """
    session.call(
        "terminate_instance",
        lambda corr_id: session.protocol.terminate(corr_id, instance_id),
        limit,
        refused=TerminateError,
    )


def new_tag() -> str:
    """Return white space that no other launch has: 64 random bits, a space or a tab each.

    Behind the JSON text of a launch's arguments it means nothing to JSON. But the server's list of processes
    repeats that text to the letter. So two launches of the same program with the same arguments at the same
    moment can be told apart. A program that takes its input as text, without reading JSON, sees it.

    No better mark was found. Of what a launch sends, the list of 0.3 to 0.5 repeats the program's name and the
    input, and nothing else; a name that differs is another program. To compare the lists before and after a launch
    would take another client's instance for ours if ours ends at once. An attached launch tells its id, but 0.3
    and 0.4 never let go of what was attached.
    """
    return "".join(" \t"[bit == "1"] for bit in f"{secrets.randbits(_TAG_SIZE):0{_TAG_SIZE}b}")


def list_instances(session: Session, limit: TimeLimit) -> list[InstanceInfo]:
    """Return the list, with the arguments as they were given."""
    return InstanceList(
        dataclasses.replace(info, arguments=tuple(_TAG.sub("", text) for text in info.arguments))
        for info in _fetch(session, "list_instances", limit, RequestError)
    )


def find_detached(session: Session, method: str, tag: str, limit: TimeLimit) -> str:
    """Return the id of the instance that was launched with ``tag``.

    Raises:
        LaunchError: the list does not have the instance: it has ended already.
        ProtocolError: the list makes no sense.
        PieTimeoutError: no answer in time.
        PieConnectionError: the connection is lost.
    """
    for info in _fetch(session, method, limit, LaunchError):
        if any(text.endswith(tag) for text in info.arguments):
            return info.id
    raise LaunchError(method, HAS_ENDED)


def _fetch(
    session: Session, method: str, limit: TimeLimit, refused: type[RequestError]
) -> tuple[InstanceInfo, ...]:
    protocol = session.protocol
    answer = session.call(method, protocol.list, limit, kind=protocol.list_answer, refused=refused)
    try:
        return protocol.instances(answer)
    except BadMessage as error:
        raise ProtocolError(f"the server sent {error}") from error
