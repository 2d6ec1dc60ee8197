"""The files of ``map``, with one JSON value per line: inputs are read, results are written."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Union

from .._support.text_files import decode_text
from ..errors import InstanceFailed
from ..events import Blob, CompletedInstance, Event
from ._failures import Failure, explain
from ._files import ENCODING_HINT
from ._output import writing

__all__ = ["Args", "ResultFile", "open_inputs", "read_inputs", "record"]

#: The arguments of an instance: a list as on a command line, or a mapping of names to values.
Args = Union[list[str], Mapping[str, Any]]

#: The beginning of every line that ResultFile writes.
_BEGIN = b'{"input": '


def open_inputs(path: str) -> IO[bytes]:
    """Open the file of inputs; ``-`` is stdin."""
    return open(0, "rb", closefd=False) if path == "-" else open(path, "rb")


def read_inputs(file: IO[bytes], name: str) -> Iterator[Args]:
    """Read inputs: each line holds a JSON list of strings, a string (one argument), or an object.

    Empty lines are skipped, and so is a byte order mark.

    Raises:
        Failure: a line holds something else, or is not UTF-8; the text gives its number.
    """
    for number, line in enumerate(file, 1):
        try:
            text = decode_text(line, f"{name}, line {number}")
        except ValueError as error:
            raise Failure(str(error), ENCODING_HINT) from error
        if not text.strip():
            continue
        try:
            value = json.loads(text)
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
    """Return the line of the result file for one instance, as a dict.

    Args:
        args: the arguments of the instance.
        result: its result, or the error.
        blobs: the folder to save its blobs in; None puts them into the record, in base64.
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
    with writing(str(folder)):
        return {"name": blob.name, "path": str(blob.save(folder))}


class ResultFile:
    """The file of results: one line for each input, in the order of the inputs, so that a run can be resumed.

    Attributes:
        done: the number of results in the file.
        failed: the number of those whose instance has not completed.
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
        with writing(str(self.path)):
            try:
                self._file.close()
            except OSError:
                if error is None:
                    raise  # else closing has failed by the same cause: it writes what write() could not

    def _lock(self) -> None:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - not on Windows

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(
                    f"another `pie-sync map` is writing {self.path}", "wait for it, or give another --output"
                ) from None

    def resume(self, inputs: Iterator[Args]) -> None:
        """Skip the inputs that have a result in the file already.

        Raises:
            Failure: the results belong to other inputs.
        """
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                # A run was killed in the middle of this line. A line that no run can have begun stays.
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
            "give another --output, or delete that file to start over",
        )

    def write(self, result: dict[str, Any]) -> None:
        """Append a line and flush it."""
        with writing(str(self.path)):
            self._file.write(json.dumps(result, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            self._file.flush()
        self._count(result["event"])

    def _count(self, event: str | None) -> None:
        self.done += 1
        self.failed += event != Event.Completed.name

    def is_same_file(self, path: str) -> bool:
        """Whether this is the file at ``path``."""
        return path != "-" and os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))
