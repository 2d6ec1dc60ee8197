"""Program references: what a user gives for a program, and how the server knows it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Union

from .._functions.function_program import FunctionProgram, RemoteFunction, function_program
from .._session.payloads import check_is_wasm, open_payload
from .._support.time_limits import DEFAULT, Timeout
from ..errors import PieValueError
from ..events import ResultForm

if TYPE_CHECKING:
    from .._connection.manager import ConnectionManager
    from .._functions.inferlet import Inferlet
    from .._functions.signature import Signature

__all__ = ["GivenProgram", "KnownProgram", "Program", "ProgramReference", "identity_of", "is_program_file"]

#: A program of unknown result: a registry name, a program hash (64 hexadecimal digits), the path of a file, or a
#: function of the official client.
KnownProgram = Union[str, "os.PathLike[str]", RemoteFunction]

#: A program: one of the above, or a function of our own.
Program = Union[KnownProgram, "Inferlet[..., Any]", Callable[..., Any]]

_HASH = re.compile("[0-9a-fA-F]{64}")


class ProgramReference(NamedTuple):
    """A program as the server knows it. Can be pickled.

    Attributes:
        name: its name in the registry; None if it's known by its hash.
        hash: its BLAKE3 hash, in hex; None if it's known by its name.
        signature: of a function, its parameters; None if they are not known.
    """

    name: str | None
    hash: str | None
    signature: Signature | None = None

    @property
    def identity(self) -> str:
        """What tells the results of this program from those of another: its hash, or its name."""
        identity = self.hash or self.name
        assert identity is not None
        return identity

    @property
    def result_form(self) -> ResultForm:
        """The form of its result."""
        return ResultForm.JSON if self.signature is None else self.signature.result_form

    def check_args(self, args: list[str] | dict[str, Any]) -> list[str] | dict[str, Any]:
        """Return the arguments of a launch as they are sent, which is not always as the user gave them.

        Raises:
            TypeError: they can't be the arguments of this program.
        """
        return args if self.signature is None else self.signature.check(args)


class GivenProgram:
    """A program as a user gives it. Nothing is sent before :meth:`find`.

    Args:
        program: see :data:`Program`; or a reference, which stays what it is.

    Attributes:
        function: the function that it is; None if it is something else.
        is_file: whether it is a WebAssembly file.

    Raises:
        TypeError, PieValueError: it can't be a program.
        OSError: the Python file can't be read.
    """

    def __init__(self, program: Program | ProgramReference) -> None:
        self._program = program
        self.function: FunctionProgram | None = None
        self.is_file = False
        self._reference: ProgramReference | None = None
        if isinstance(program, ProgramReference):
            self._reference = program
        else:
            self.function = function_program(program)
            self.is_file = self.function is None and is_program_file(program)
            self._reference = self._known()

    def check_args(self, args: list[str] | dict[str, Any]) -> list[str] | dict[str, Any]:
        """See :meth:`ProgramReference.check_args`."""
        return self.reference.check_args(args)

    @property
    def is_sent(self) -> bool:
        """Whether it is uploaded, unless the server has it."""
        return self.function is not None or self.is_file

    @property
    def reference(self) -> ProgramReference:
        """The reference, as far as it is known before :meth:`find`: without the hash of a file."""
        assert self._reference is not None
        return self._reference

    def _known(self) -> ProgramReference:
        if self.function is not None:
            return ProgramReference(str(self.function.program), None, self.function.signature)
        if self.is_file:
            return ProgramReference(None, None)
        assert isinstance(self._program, str)
        if _HASH.fullmatch(self._program):
            return ProgramReference(None, self._program.lower())
        return ProgramReference(self._program, None)

    def with_hash(self) -> ProgramReference:
        """Return the reference as :meth:`find` does, but ask no server, and send nothing.

        Raises:
            OSError: the file can't be read.
        """
        reference = self.reference
        if self.function is not None and not self.function.is_content_addressed:
            # By its content-addressed twin: another client may have replaced what has its name.
            with open_payload(self.function.source.encode("utf-8", "surrogatepass")) as payload:
                return reference._replace(name=None, hash=payload.hash)
        if self.is_file:
            assert isinstance(self._program, (str, os.PathLike))
            with open_payload(self._program) as payload:
                return reference._replace(hash=payload.hash)
        return reference

    def find(
        self, manager: ConnectionManager, method: str, left: Callable[[], Timeout] = lambda: DEFAULT
    ) -> ProgramReference:
        """Return the reference. A function or a file is uploaded, unless the server has it.

        Args:
            manager: where to upload it.
            method: the client's method, for error messages.
            left: returns the time limit of a request for a file that is sent now. A function has its own limit.

        Raises:
            UploadError: the file is no WebAssembly.
            TypeError, PieValueError: it can't be a program.
            OSError: the file can't be read.
            PieError, PieConnectionError: the upload has failed, or servers of this kind run no functions.
        """
        if self.function is not None:
            limit = manager.install_limit()
            functions = manager.authenticated(method, limit).functions
            functions.install(self.function, method, limit)
            return self.with_hash()
        if self.is_file:
            assert isinstance(self._program, (str, os.PathLike))
            with open_payload(self._program) as payload:
                check_is_wasm(payload, os.fspath(self._program))
                limit = manager.limit(left())
                programs = manager.authenticated("program_exists", limit).programs
                if not programs.exists(payload.hash, limit):
                    limit = manager.limit(left(), for_upload=True)
                    programs = manager.authenticated("upload_program", limit).programs
                    programs.upload(payload, None, overwrite=False, limit=limit, progress=None)
                return self.reference._replace(hash=payload.hash)
        return self.reference


def is_program_file(program: Program) -> bool:
    """Return whether ``program`` names a WebAssembly file, rather than something that the server knows.

    Only the spelling counts, not which files there are: a ``PathLike``, or a text with the ending ``.wasm``.

    Raises:
        TypeError, PieValueError: it's no program at all.
    """
    if isinstance(program, os.PathLike):
        return True
    if not isinstance(program, str):
        raise TypeError(
            f"program must be a function, a name, a hash or a path, not {type(program).__name__};"
            " bytes go through upload_program(), which returns a hash"
        )
    if not program:
        raise PieValueError("program must not be empty")
    return program.endswith(".wasm")


def identity_of(program: Program) -> str:
    """Return what :attr:`ProgramReference.identity` will be, without a server.

    Raises:
        TypeError, PieValueError: it's no program at all.
        OSError: the file can't be read.
    """
    return GivenProgram(program).with_hash().identity
