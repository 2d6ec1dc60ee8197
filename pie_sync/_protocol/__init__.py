"""The wire protocols: messages of each generation <-> common dataclasses. Pure: no sockets, threads or clock.

``messages.py`` holds what both generations have in common, ``programs.py`` how programs are named. ``instance.py``
speaks the instance protocol (Pie up to 0.2), ``process.py`` the process protocol (Pie 0.3 to 0.5), and
``undetected.py`` understands the first answer of a server that may speak either. ``repeats.py`` is for speed.
"""

from __future__ import annotations

from typing import Union

from .detection import UndetectedProtocol
from .instance import InstanceProtocol
from .prefix_cache import Addressed, Repeats
from .process import ProcessProtocol

__all__ = [
    "PROTOCOLS",
    "Addressed",
    "InstanceProtocol",
    "ProcessProtocol",
    "Protocol",
    "Repeats",
    "UndetectedProtocol",
]

#: One generation of the protocol.
Protocol = Union[InstanceProtocol, ProcessProtocol]

#: The generations by the names that users give them.
PROTOCOLS: dict[str, Protocol] = {"instance": InstanceProtocol(), "process": ProcessProtocol()}
