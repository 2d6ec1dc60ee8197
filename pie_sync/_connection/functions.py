"""The functions of one session: each is uploaded once."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from .._protocol import ProcessProtocol
from .._session.payloads import open_payload
from .._support.time_limits import acquire
from ..errors import LaunchError, UploadError
from .manifest import Manifest

if TYPE_CHECKING:
    from .._functions.function_program import FunctionProgram
    from .._session.session import Session
    from .._support.time_limits import TimeLimit
    from .programs import Programs

__all__ = ["INSTALL_TIMEOUT", "Functions"]

#: How many seconds the upload of a function may take at least. A fresh server needs 25 s for its first Python
#: program, on two processors (measured).
INSTALL_TIMEOUT = 180.0

logger = logging.getLogger("pie_sync.protocol")


class Functions:
    """Uploads functions, and knows which ones the server has. Thread-safe.

    A function whose version was made from its contents needs no content-addressed twin (see :class:`Programs`):
    one question by its name tells whether the server has it. If the user gave the version, the question is for the
    twin.
    """

    def __init__(self, session: Session, programs: Programs) -> None:
        self._session = session
        self._programs = programs
        self._installed: set[str] = set()
        # Of each function that was asked for: held by the thread that uploads it.
        self._locks: dict[str, threading.Lock] = {}

    def install(self, function: FunctionProgram, method: str, limit: TimeLimit) -> None:
        """Upload a function unless the server has it. Blocks while another thread uploads the same one.

        Raises:
            LaunchError: servers of this generation run no functions.
            UploadError: the server refused it.
            PieTimeoutError: not done in time.
            PieConnectionError: the connection is lost.
        """
        key = f"{function.program} {function.source}"
        if key in self._installed:
            return
        self._check_server(method)
        lock = self._locks.setdefault(key, threading.Lock())
        acquired: list[bool] = []
        try:
            if not acquire(lock, limit.deadline(), acquired):
                raise limit.expired(method, f"another thread did not upload {function.program}")
            if key not in self._installed:
                if not self.exists(function, method, limit):
                    self._upload(function, method, limit)
                self._installed.add(key)
        finally:
            if True in acquired:
                lock.release()

    def exists(self, function: FunctionProgram, method: str, limit: TimeLimit) -> bool:
        """Ask the server whether it has a function. See :meth:`install` for the errors."""
        if not self._may_run_functions:
            return False
        if function.is_content_addressed:
            return self._programs.is_installed(function.program, method, limit)
        with open_payload(_encoded(function)) as payload:
            return self._programs.find_named(payload.hash, method, limit)

    def _upload(self, function: FunctionProgram, method: str, limit: TimeLimit) -> None:
        logger.info(
            "%s: uploading the function %s; a fresh server takes half a minute for its first Python program",
            method,
            function.program,
        )
        manifest = Manifest(function.manifest)
        if not function.is_content_addressed and self._programs.is_installed(function.program, method, limit):
            raise UploadError(
                method,
                f"{function.program} is something else on this server: give the function another version, or none",
            )
        with open_payload(_encoded(function)) as payload:
            if function.is_content_addressed:
                text = manifest.renamed(function.program)
                self._programs.send(payload, text, limit, None, overwrite=True)
            else:
                self._programs.upload(payload, manifest, overwrite=False, limit=limit, progress=None)
        logger.info("%s: uploaded the function %s", method, function.program)

    @property
    def _may_run_functions(self) -> bool:
        return isinstance(self._session.protocol, ProcessProtocol) and self._session.endpoint.may_be_gateway

    def _check_server(self, method: str) -> None:
        if not self._may_run_functions:
            is_process = isinstance(self._session.protocol, ProcessProtocol)
            raise LaunchError(
                method,
                f"this server is a Pie {'0.3 or 0.4' if is_process else 'up to 0.2'} and runs WebAssembly only;"
                " Python functions run on Pie 0.5 (on PyPI: pie-server with pie-language-python)",
            )


def _encoded(function: FunctionProgram) -> bytes:
    return function.source.encode("utf-8", "surrogatepass")
