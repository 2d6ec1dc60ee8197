"""pie-sync: the blocking Python client for Pie, the programmable LLM serving system.

>>> from pie_sync import PieClient
>>> with PieClient("ws://127.0.0.1:8080") as client:    # doctest: +SKIP
...     client.authenticate("alice")
...     for event, data in client.launch_instance_from_registry("std/text-completion", ["--prompt", "Hi"]):
...         print(event.name, data)

Everything that is public is listed in ``__all__``; ``pie_sync.testing`` has a server for tests, and fixtures for
pytest. (PYTEST_DONT_REWRITE keeps pytest from warning, or failing, when this was imported before pytest ran.)
"""

from __future__ import annotations

from ._functions.inferlet import Inferlet, inferlet
from ._runs.progress import BatchProgress
from ._support.counters import ClientStats
from ._version import __version__
from .client import PieClient
from .errors import (
    AttachError,
    AuthenticationError,
    InstanceEnded,
    InstanceFailed,
    InvalidKeyError,
    LaunchError,
    PieConnectionError,
    PieConnectTimeoutError,
    PieError,
    PieTimeoutError,
    PieValueError,
    ProtocolError,
    RequestError,
    TerminateError,
    UploadError,
)
from .events import Blob, CompletedInstance, Event, InstanceInfo, QueryResult
from .instance import Instance
from .keys import ParsedPrivateKey

__all__ = [
    "AttachError",
    "AuthenticationError",
    "BatchProgress",
    "Blob",
    "ClientStats",
    "CompletedInstance",
    "Event",
    "Inferlet",
    "Instance",
    "InstanceEnded",
    "InstanceFailed",
    "InstanceInfo",
    "InvalidKeyError",
    "LaunchError",
    "ParsedPrivateKey",
    "PieClient",
    "PieConnectTimeoutError",
    "PieConnectionError",
    "PieError",
    "PieTimeoutError",
    "PieValueError",
    "ProtocolError",
    "QueryResult",
    "RequestError",
    "TerminateError",
    "UploadError",
    "__version__",
    "inferlet",
]
