"""The files of ``map``: one JSON value per line, read as inputs and written as results."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Union

from ..errors import InstanceFailed
from ..events import Blob, CompletedInstance, Event
from ._failures import Failure, explain

__all__ = ["Args", "ResultFile", "open_inputs", "read_inputs", "record"]

#: What an instance is launched with: command-line arguments, or names and values.
Args = Union[list[str], Mapping[str, Any]]

#: How every line that we write begins.
_BEGIN = b'{"input": '


def open_inputs(path: str) -> IO[bytes]:
    """Open the file of inputs; ``-`` is stdin."""
    return open(0, "rb", closefd=False) if path == "-" else open(path, "rb")


def read_inputs(file: IO[bytes], name: str) -> Iterator[Args]:
    """Read inputs: on each line a JSON list of strings, a string (one argument), or an object.

    Empty lines don't count.

    Raises:
        Failure: a line is something else; the text says which.
    """
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise Failure(
                f"{name}, line {number} is no JSON: {error}", 'a line looks like ["--prompt", "Hi"]'
            ) from error
        if isinstance(value, str):
            value = [value]
        if isinstance(value, dict) or (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            yield value
        else:
            raise Failure(
                f"{name}, line {number} is neither a list of strings nor an object",
                'a line looks like ["--prompt", "Hi"] or {"prompt": "Hi"}',
            )


def record(args: Args, result: CompletedInstance | Exception, blobs: Path | None) -> dict[str, Any]:
    """Return what is written about one instance.

    Args:
        args: what it was launched with.
        result: what became of it.
        blobs: where to save its blobs; None writes them into the record.
    """
    if isinstance(result, InstanceFailed):
        result = result.completed
    if isinstance(result, Exception):
        return {"input": args, "event": None, "message": explain(result).text}
    return {
        "input": args,
        "event": result.event.name,
        "message": result.message,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "messages": result.messages,
        "blobs": [_blob(blob if isinstance(blob, Blob) else Blob(blob), blobs) for blob in result.blobs],
    }


def _blob(blob: Blob, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {"name": blob.name, "base64": base64.b64encode(blob).decode()}
    return {"name": blob.name, "path": str(blob.save(folder))}


class ResultFile:
    """The file of results: a line for each input, in the same order. So its length says how far it got.

    Attributes:
        done: how many results it has.
        failed: how many of them are not of a completed instance.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done = 0
        self.failed = 0
        self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> ResultFile:
        try:
            self._lock()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        import fcntl  # noqa: PLC0415 - not on Windows

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"another `pie-sync map` is writing {self.path}", "wait for it, or give another --output"
            ) from None

    def resume(self, inputs: Iterator[Args]) -> None:
        """Take from ``inputs`` those that have a result already.

        Raises:
            Failure: the results are of other inputs.
        """
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                # Its writer was killed. Only what is surely ours is thrown away.
                if not line.startswith(_BEGIN) and not _BEGIN.startswith(line):
                    raise self._foreign()
                self._file.truncate(end)
                break
            self._check(line, next(inputs, None))
            end += len(line)

    def _check(self, line: bytes, args: Args | None) -> None:
        try:
            result = json.loads(line)
            if result["input"] != args:
                raise self._foreign()
            self._count(result["event"])
        except (ValueError, TypeError, KeyError):
            raise self._foreign() from None

    def _foreign(self) -> Failure:
        return Failure(
            f"{self.path}, line {self.done + 1} is not the result of the input there",
            "give another --output, or delete that file to begin anew",
        )

    def write(self, result: dict[str, Any]) -> None:
        """Add a line, for good."""
        self._file.write(json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
        self._file.flush()
        self._count(result["event"])

    def _count(self, event: str | None) -> None:
        self.done += 1
        self.failed += event != Event.Completed.name

    def is_same_file(self, path: str) -> bool:
        """Whether this is the file at ``path``."""
        return path != "-" and os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))
