"""Which protocols a server can speak, and what each consists of."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Callable, NamedTuple

from .._network.websocket import Admit
from .._programs.instance import Output
from .._server.catalog import ProgramName
from .._server.channel import Channel, Message
from .._server.client import Dialect
from .._server.core import Core
from .installed import installed_name
from .instance import VARIANTS, InstanceDialect
from .instance import encode_output as encode_instance_output
from .process import encode_output as encode_process_output
from .process_0_4 import Process04Dialect
from .process_0_5 import Process05Dialect, admit, encode_with_turns

__all__ = ["Flavour"]

PROTOCOLS = ("instance", "process", "process-0.5")


class Flavour(NamedTuple):
    """A protocol, as a server of a certain version speaks it."""

    new_dialect: Callable[[Core, Channel], Dialect]
    """Makes the dialect for one connection."""
    encode: Callable[[Output], Iterable[Message]]
    """Makes the messages for an output."""
    admit: Admit
    """Says which requests for a connection are refused."""
    registered_name: Callable[[ProgramName], ProgramName]
    """Makes the name of a registered program of the one that the user gave; ValueError for an impossible one."""
    keeps_output: bool
    """Whether the output of a detached instance is kept."""

    @classmethod
    def of(cls, protocol: str, *, variant: str, challenge_message: bool, early_events: bool) -> Flavour:
        """Return what belongs to a protocol; see :class:`LocalServer` for the arguments.

        Raises:
            ValueError: there is no such thing.
        """
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        if protocol == "instance":
            if early_events:
                raise ValueError("early_events is for the process protocol: this one keeps the order")
            dialect = partial(InstanceDialect, variant=variant, challenge_message=challenge_message)
            return cls(dialect, encode_instance_output, _admit_all, lambda name: name, True)
        if variant != VARIANTS[0] or challenge_message:
            raise ValueError("variant and challenge_message are for the instance protocol")
        if protocol == "process":
            dialect_0_4 = partial(Process04Dialect, early_events=early_events)
            return cls(dialect_0_4, encode_process_output, _admit_all, installed_name, False)
        dialect_0_5 = partial(Process05Dialect, early_events=early_events)
        return cls(dialect_0_5, encode_with_turns, admit, installed_name, False)


def _admit_all(_path: str, _headers: dict[str, str]) -> None:
    return None
