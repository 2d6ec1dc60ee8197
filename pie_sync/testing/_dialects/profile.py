"""Server profiles: what LocalServer needs to know of each kind of server that it can be."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Callable, NamedTuple

from ...errors import PieValueError
from .._programs.instance import Output
from .._server.catalog import ProgramName
from .._server.channel import Channel
from .._server.client import Dialect
from .._server.core import Core
from .installed import PROGRAM_RULES, installed_name
from .instance import VARIANTS, InstanceDialect
from .instance import encode_output as encode_instance_output
from .process import encode_output as encode_process_output
from .process_0_4 import Process04Dialect
from .process_0_5 import Process05Dialect, check_upgrade, encode_output_with_turn_done

__all__ = ["GENERATIONS", "ServerProfile"]

GENERATIONS = ("0.2", "0.2-names", "0.3", "0.4", "0.5")

#: Names of protocols that stand for a generation.
_PROTOCOLS = {"instance": "0.2", "process": "0.4", "process-0.5": "0.5"}

_VARIANTS = {"0.2": "hash", "0.2-names": "name"}

_MAX_FRAME_SIZE = 16 * 1024 * 1024


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
    """Whether output of a detached instance is kept."""
    authenticates: bool
    """Whether there are users and an internal token."""
    largest_rsa: int
    """The most bits that a user's RSA key may have."""
    max_frame_size: int | None
    """Bytes of payload that one frame may have; None for no limit but that of messages."""
    goes_deaf: bool
    """Whether the server reads nothing more after a frame or message that is too large; else it hangs up."""
    leaks: bool
    """Whether a close frame is answered only if something is written after it, and the socket leaked if not."""

    @classmethod
    def of(
        cls, protocol: str, *, variant: str, challenge_message: bool, early_events: bool, blobs_lock_up: bool
    ) -> ServerProfile:
        """Return the profile for options of :class:`LocalServer`, which describes them.

        Raises:
            ValueError: an option is invalid, or does not fit the protocol.
        """
        if protocol not in GENERATIONS and protocol not in _PROTOCOLS:
            known = ", ".join((*GENERATIONS, *_PROTOCOLS))
            raise PieValueError(f"protocol must be one of {known}, not {protocol!r}")
        if variant not in VARIANTS:
            raise PieValueError(f"variant must be one of {', '.join(VARIANTS)}, not {variant!r}")
        generation = _PROTOCOLS.get(protocol, protocol)
        if variant != VARIANTS[0]:
            if generation not in _VARIANTS:
                raise PieValueError("variant is for the instance protocol")
            if protocol != "instance":
                raise PieValueError(f"{protocol!r} names its variant itself: leave out variant")
            generation = "0.2-names"
        if generation in _VARIANTS:
            if early_events:
                raise PieValueError(
                    "early_events is for the process protocol: the instance protocol keeps the order"
                )
            return _instance_profile(
                _VARIANTS[generation], challenge_message=challenge_message, blobs_lock_up=blobs_lock_up
            )
        if challenge_message or blobs_lock_up:
            raise PieValueError("challenge_message and blobs_lock_up are for the instance protocol")
        if generation == "0.5":
            return _profile_0_5(early_events=early_events)
        if early_events:
            raise PieValueError("early_events is for Pie 0.5: older servers keep the order")
        return _profile_0_4(generation)


def _instance_profile(variant: str, *, challenge_message: bool, blobs_lock_up: bool) -> ServerProfile:
    return ServerProfile(
        new_dialect=partial(
            InstanceDialect, variant=variant, challenge_message=challenge_message, blobs_lock_up=blobs_lock_up
        ),
        encode=encode_instance_output,
        check_upgrade=_accept_any_upgrade,
        registered_name=lambda name: name,
        keeps_output=True,
        authenticates=True,
        largest_rsa=8192,
        max_frame_size=_MAX_FRAME_SIZE,
        goes_deaf=False,
        leaks=False,
    )


def _profile_0_4(generation: str) -> ServerProfile:
    return ServerProfile(
        new_dialect=partial(Process04Dialect, rules=PROGRAM_RULES[generation]),
        encode=partial(encode_process_output, names_files=False),
        check_upgrade=_accept_any_upgrade,
        registered_name=installed_name,
        keeps_output=False,
        authenticates=True,
        largest_rsa=4096,
        max_frame_size=_MAX_FRAME_SIZE,
        goes_deaf=True,
        leaks=True,
    )


def _profile_0_5(*, early_events: bool) -> ServerProfile:
    return ServerProfile(
        new_dialect=partial(Process05Dialect, early_events=early_events),
        encode=encode_output_with_turn_done,
        check_upgrade=check_upgrade,
        registered_name=installed_name,
        keeps_output=False,
        authenticates=False,
        largest_rsa=0,
        max_frame_size=None,
        goes_deaf=False,
        leaks=False,
    )


def _accept_any_upgrade(_path: str, _headers: dict[str, str]) -> None:
    return None
