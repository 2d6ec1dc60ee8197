"""Server profiles: what LocalServer needs to know of each kind of server that it can be."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Callable, NamedTuple

from .._programs.instance import Output
from .._server.catalog import ProgramName
from .._server.channel import Channel
from .._server.client import Dialect
from .._server.core import Core
from .installed import installed_name
from .instance import VARIANTS, InstanceDialect
from .instance import encode_output as encode_instance_output
from .process import encode_output as encode_process_output
from .process_0_4 import Process04Dialect
from .process_0_5 import Process05Dialect, check_upgrade, encode_output_with_turn_done

__all__ = ["ServerProfile"]

PROTOCOLS = ("instance", "process", "process-0.5")


class ServerProfile(NamedTuple):
    """The properties of one kind of server."""

    new_dialect: Callable[[Core, Channel], Dialect]
    """Makes the dialect of one connection."""
    encode: Callable[[Output], Iterable[bytes | str]]
    """Encodes an output as messages."""
    check_upgrade: Callable[[str, dict[str, str]], tuple[int, str] | None]
    """Decides on an upgrade request by its path and headers: the HTTP status and text of a refusal, or None."""
    registered_name: Callable[[ProgramName], ProgramName]
    """Completes the name of a program of the registry. Raises ValueError if the protocol can't express it."""
    keeps_output: bool
    """Whether the output of a detached instance is kept."""

    @classmethod
    def of(cls, protocol: str, *, variant: str, challenge_message: bool, early_events: bool) -> ServerProfile:
        """Return the profile for options of :class:`LocalServer`, which describes them.

        Raises:
            ValueError: an option is invalid, or does not fit the protocol.
        """
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
        if variant not in VARIANTS:
            raise ValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        if protocol == "instance":
            if early_events:
                raise ValueError("early_events is for the process protocol: the instance protocol keeps the order")
            dialect = partial(InstanceDialect, variant=variant, challenge_message=challenge_message)
            return cls(dialect, encode_instance_output, _accept_any_upgrade, lambda name: name, True)
        if variant != VARIANTS[0] or challenge_message:
            raise ValueError("variant and challenge_message are for the instance protocol")
        if protocol == "process":
            dialect_0_4 = partial(Process04Dialect, early_events=early_events)
            return cls(dialect_0_4, encode_process_output, _accept_any_upgrade, installed_name, False)
        dialect_0_5 = partial(Process05Dialect, early_events=early_events)
        return cls(dialect_0_5, encode_output_with_turn_done, check_upgrade, installed_name, False)


def _accept_any_upgrade(_path: str, _headers: dict[str, str]) -> None:
    return None
