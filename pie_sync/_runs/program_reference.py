"""Program references: a program's name, its hash, or the file that holds it, for ``run`` and ``map``."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple, Union

from .._session.payloads import open_payload
from .._support.time_limits import DEFAULT, Timeout
from ..errors import PieValueError

if TYPE_CHECKING:
    from typing import Callable

    from .._connection.manager import ConnectionManager

__all__ = ["Program", "ProgramReference", "is_program_file"]

#: A registry name, a program hash (64 hexadecimal digits), or the path of a file.
Program = Union[str, "os.PathLike[str]"]

_HASH = re.compile("[0-9a-fA-F]{64}")


class ProgramReference(NamedTuple):
    """A program as the server knows it.

    Attributes:
        name: its name in the registry; None if it's known by its hash.
        hash: its BLAKE3 hash, in hex; None if it's known by its name.
    """

    name: str | None
    hash: str | None

    @classmethod
    def find(
        cls, manager: ConnectionManager, program: Program, left: Callable[[], Timeout] = lambda: DEFAULT
    ) -> ProgramReference:
        """Return what ``program`` refers to. A program in a file is uploaded, unless the server has it.

        Args:
            manager: where to upload it.
            program: see :data:`Program`.
            left: returns the time limit of a request that is sent now.

        Raises:
            TypeError, PieValueError: it can't be a program.
            OSError: the file can't be read.
            PieError, PieConnectionError: the upload has failed.
        """
        if is_program_file(program):
            with open_payload(program) as payload:
                limit = manager.limit(left())
                programs = manager.authenticated("program_exists", limit).programs
                if not programs.exists(payload.hash, limit):
                    limit = manager.limit(left(), for_upload=True)
                    programs = manager.authenticated("upload_program", limit).programs
                    programs.upload(payload, None, overwrite=False, limit=limit, progress=None)
                return cls(None, payload.hash)
        assert isinstance(program, str)
        if _HASH.fullmatch(program):
            return cls(None, program.lower())
        return cls(program, None)


def is_program_file(program: Program) -> bool:
    """Return whether ``program`` names a file, rather than something that the server knows.

    A registry name may contain a slash. So a text without the ending ``.wasm`` is a file only if there is one.

    Raises:
        TypeError, PieValueError: it's no program at all.
    """
    if isinstance(program, os.PathLike):
        return True
    if not isinstance(program, str):
        raise TypeError(
            f"program must be a name, a hash or a path, not {type(program).__name__};"
            " bytes go through upload_program(), which returns a hash"
        )
    if not program:
        raise PieValueError("program must not be empty")
    has_separator = any(separator in program for separator in (os.sep, os.altsep) if separator)
    return program.endswith(".wasm") or (has_separator and os.path.isfile(program))
