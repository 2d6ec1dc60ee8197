"""The wire protocols: messages of each generation <-> common dataclasses. Pure: no sockets, threads or clock.

``instance.py`` speaks the instance protocol (Pie up to 0.2), ``process.py`` the process protocol (Pie 0.3 to 0.5);
``detection.py`` finds out which one a server speaks. ``components.py`` reads and changes under which name a
component can be launched. ``prefix_cache.py`` is for speed.

Not in here: bytes on their way, and what becomes of a message.
"""

from __future__ import annotations

from typing import Union

from .detection import ProtocolDetector
from .generation import LaunchEncoder
from .instance import InstanceProtocol
from .prefix_cache import Addressed, PrefixCache
from .process import ProcessProtocol

__all__ = [
    "PROTOCOLS",
    "Addressed",
    "InstanceProtocol",
    "LaunchEncoder",
    "PrefixCache",
    "ProcessProtocol",
    "Protocol",
    "ProtocolDetector",
]

#: One generation of the protocol.
Protocol = Union[InstanceProtocol, ProcessProtocol]

#: The generations by the names that users give them.
PROTOCOLS: dict[str, Protocol] = {"instance": InstanceProtocol(), "process": ProcessProtocol()}
