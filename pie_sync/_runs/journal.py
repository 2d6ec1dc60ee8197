"""The journal of a batch: a file with one JSON line for each input that has an outcome, in the inputs' order.

A batch that is started again goes on behind its lines. The first also names the program and the options of all.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from time import monotonic
from typing import IO, TYPE_CHECKING, Any

from ..errors import PieValueError
from ..events import Event, ResultForm
from .records import Args, normalised, record, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..events import CompletedInstance
    from .progress import ProgressMeter

__all__ = ["Journal", "JournalError", "RecordedInputs", "recorded"]

#: The beginning of every line.
_BEGIN = b'{"input": '

#: The key of the first line that names the program and the options.
_BATCH = "batch"

#: How often, in seconds, the lines are written through to the disk, so that the machine may crash.
_SYNC_INTERVAL = 1.0


class JournalError(PieValueError):
    """A journal is not one of this batch. Has a hint, what can be done about it."""


class Journal:
    """The file of a batch's outcomes. Used by one thread at a time; closed by :meth:`close`.

    The file is locked against other batches while it is open, but on Windows.

    Args:
        path: the file. It is made if there is none.
        batch: names the program and the options that decide what a line holds. A value of None is as good as none.
        restart: begin anew, and forget the lines that are there.
        restart_hint: how the user can do that.

    Attributes:
        done: how many lines were read or written.
        failed: how many of them are of inputs that have failed.

    Raises:
        JournalError: the lines are of another program or of other options; or the file is no journal; or another
            batch is writing it.
        OSError: the file can't be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch: Mapping[str, Any],
        *,
        restart: bool = False,
        restart_hint: str = "name another file, or delete that one to begin anew",
    ) -> None:
        self.path = os.fspath(path)
        self.done = 0
        self.failed = 0
        self._batch = {name: value for name, value in batch.items() if value is not None}
        self._restart_hint = restart_hint
        self._synced = monotonic()
        self._file: IO[bytes] = open(path, "a+b")  # noqa: SIM115 - closed by close()
        # A device or a pipe takes lines, and has none that could be read.
        self._has_lines = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        try:
            self._lock()
            self._check_batch(restart)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file. Does nothing if it is closed.

        Raises:
            OSError: what was written last can't be.
        """
        with _naming(self.path):
            self._file.close()

    def __del__(self) -> None:
        # Of a batch that was dropped without an end.
        if hasattr(self, "_file"):
            self._file.close()

    def is_same_file(self, path: str) -> bool:
        """Return whether this is the file at ``path``."""
        return os.path.samestat(os.fstat(self._file.fileno()), os.stat(path))

    def _lock(self) -> None:
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - not on Windows

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalError(
                    f"another batch is writing {self.path}", "wait for it, or name another file"
                ) from None

    def _check_batch(self, restart: bool) -> None:
        """Read the first line: is this a journal, and of this batch?"""
        if not self._has_lines:
            return
        self._file.seek(0)
        # A big file that is no journal may have no lines at all.
        first = self._file.read(len(_BEGIN))
        if not first:
            return
        if first == _BEGIN:
            first += self._file.readline()
        if not first.startswith(_BEGIN) and not (_BEGIN.startswith(first) and not first.endswith(b"\n")):
            raise self._foreign()
        if restart:
            self._file.truncate(0)
        elif first.endswith(b"\n"):
            self._compare(_parsed(first))

    def _compare(self, first: dict[str, Any] | None) -> None:
        batch = None if first is None else first.get(_BATCH)
        if not isinstance(batch, dict):
            raise self._foreign(": it does not say of which program")
        for name in [*self._batch, *(name for name in batch if name not in self._batch)]:
            before, now = batch.get(name), self._batch.get(name)
            if before != now:
                raise JournalError(
                    f"{self.path} has results of {name} {before!r}, and this batch has {name} {now!r}",
                    self._restart_hint,
                )

    def _foreign(self, why: str = "") -> JournalError:
        return JournalError(
            f"{self.path}, line {self.done + 1} is not the result of the input there{why}", self._restart_hint
        )

    def resume(self, inputs: Iterator[Any]) -> Generator[dict[str, Any], None, None]:
        """Yield the lines that are there, and take as many inputs. Call this once, before :meth:`write`.

        Raises:
            JournalError: a line is not of the input at its place.
        """
        if not self._has_lines:
            return
        self._file.seek(0)
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                # A run was killed in the middle of this line. A line that no run can have begun stays.
                if not line.startswith(_BEGIN) and not _BEGIN.startswith(line):
                    raise self._foreign()
                self._file.truncate(end)
                return
            parsed = _parsed(line)
            if parsed is None or parsed.get("input", 0) != normalised(next(inputs, None)) or "event" not in parsed:
                raise self._foreign()
            self._count(parsed)
            yield parsed
            end += len(line)

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. It is with the operating system at once, and on the disk after a second or so.

        Raises:
            OSError: it can't be written.
        """
        if not self.done:
            line = {**line, _BATCH: self._batch}
        with _naming(self.path):
            self._file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n")
            self._file.flush()
            now = monotonic()
            if self._has_lines and now - self._synced > _SYNC_INTERVAL:
                self._synced = now
                os.fsync(self._file.fileno())
        self._count(line)

    def _count(self, line: Mapping[str, Any]) -> None:
        self.done += 1
        self.failed += line["event"] != Event.Completed.name


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None


class _naming:  # noqa: N801 - a function, so to speak
    """Names the file in an ``OSError`` of the with-block: an error of ``write()`` does not know it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = self._name


class RecordedInputs:
    """Inputs on their way into a batch. The journal needs them again when their outcomes come, in the same order.

    Args:
        inputs: those that have no line yet.
    """

    def __init__(self, inputs: Iterator[Any]) -> None:
        self._inputs = inputs
        self._pending: deque[Any] = deque()

    def __iter__(self) -> Iterator[Any]:
        for args in self._inputs:
            given = (
                args if isinstance(args, (Mapping, str, bytes)) or not hasattr(args, "__iter__") else list(args)
            )
            self._pending.append(normalised(given))
            yield given

    def next(self) -> Args:
        """Return the input whose outcome has come.

        Raises:
            TypeError: it can't be in a journal.
        """
        args: Args | None = self._pending.popleft()
        if args is None:
            raise TypeError("the arguments of an input can't be written to a journal: JSON has no such values")
        return args


def recorded(
    journal: Journal,
    inputs: Iterator[Any],
    start: Callable[[Iterator[Any]], Iterable[CompletedInstance[Any] | Exception]],
    meter: ProgressMeter,
    form: ResultForm = ResultForm.JSON,
) -> Generator[Any, None, None]:
    """Yield the outcomes that a journal has, then those of the other inputs, which are written to it.

    Args:
        journal: the journal.
        inputs: all inputs.
        start: takes the inputs without a line, and returns their outcomes. It is called behind the last line.
        meter: counts the lines.
        form: the form of the program's result.
    """
    for line in journal.resume(inputs):
        outcome = restore(line, form)
        meter.count(failed=isinstance(outcome, Exception), kept=True)
        yield outcome
    taken = RecordedInputs(inputs)
    for outcome in start(iter(taken)):
        journal.write(record(taken.next(), outcome))
        yield outcome
