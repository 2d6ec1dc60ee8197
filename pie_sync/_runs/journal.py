"""The journal of a batch: a file with one JSON line for each input that has an outcome, in the inputs' order.

A batch that is started again goes on behind its lines. The first line also names the program and the options, and
so does the first that was written with other options.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support.user_paths import expand
from ..errors import PieValueError
from ..events import Event, ResultForm
from .journal_file import is_regular, open_locked, replace
from .records import Args, normalised, record, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..events import CompletedInstance
    from .progress import ProgressMeter

__all__ = ["Journal", "JournalError", "RecordedInputs", "recorded"]

#: The beginning of every line.
_BEGIN = b'{"input": '

#: The key of a line that names the program and the options, of this line and those behind it.
_BATCH = "batch"

#: The options that only say what is done about failures. What has completed is the same with any value of theirs.
_ABOUT_FAILURES = ("retries", "on_error")

#: What an editor, or a file system after a power cut, leaves behind the last line.
_BLANK = b"\0 \t\r\n"

#: How many characters of an input are shown in an error.
_SHOWN = 80

_NO_INPUT = object()

#: How often, in seconds, the lines are written through to the disk, so that the machine may crash.
_SYNC_INTERVAL = 1.0


class JournalError(PieValueError):
    """A journal is not one of this batch. Has a hint, what can be done about it."""


class Journal:
    """The file of a batch's outcomes. Used by one thread at a time; closed by :meth:`close`.

    The file is locked against other batches while it is open, but on Windows.

    A pipe or a device takes lines as well: nothing is read from it. To open a named pipe waits for its reader.

    Args:
        path: the file, where ``~`` is the home directory. It is made if there is none.
        batch: names the program and the options that decide what a line holds. A value of None is as good as none.
        restart: begin anew. The lines that are there stay until the first new one replaces them, or :meth:`end`.
        restart_hint: how the user can do that.
        busy_hint: what the user can do while another batch is writing the file.
        on_wait: called before a named pipe is waited for.

    Attributes:
        path: where the file is.
        done: how many lines were read or written.
        failed: how many of them are of inputs that have failed.
        can_resume: whether the lines can be read again: not those in a pipe or a device.

    Raises:
        JournalError: the lines are of another program or of other options; or the file is no journal; or another
            batch is writing it.
        PieValueError: there is no such home directory.
        OSError: the file can't be opened.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        batch: Mapping[str, Any],
        *,
        restart: bool = False,
        restart_hint: str = "restart=True begins anew, or name another file",
        busy_hint: str = "wait for it, or name another file; if it is of this process, close() its results",
        on_wait: Callable[[], None] | None = None,
    ) -> None:
        self.path = str(expand(Path(path)))
        self.done = 0
        self.failed = 0
        self._batch = {name: value for name, value in batch.items() if value is not None}
        # What the last line says, or the last one before it that says it.
        self._named: Mapping[str, Any] | None = None
        self._restart_hint = restart_hint
        self._synced = monotonic()
        # Whether lines of an earlier batch are there, which the first new line replaces.
        self._replaces = False
        try:
            self._file = open_locked(self.path, on_wait)
        except BlockingIOError:
            raise JournalError(f"another batch is writing {self.path}", busy_hint) from None
        self.can_resume = is_regular(self._file)
        try:
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

    def _check_batch(self, restart: bool) -> None:
        """Read the first line: is this a journal, and of this batch?"""
        if not self.can_resume:
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
            self._replaces = True
        elif first.endswith(b"\n"):
            self._compare(_parsed(first))

    def _compare(self, first: dict[str, Any] | None) -> None:
        batch = None if first is None else first.get(_BATCH)
        if not isinstance(batch, dict):
            raise self._foreign(": it does not say of which program")
        for name in [*self._batch, *(name for name in batch if name not in self._batch)]:
            if name in _ABOUT_FAILURES:
                continue  # resume() compares them where they matter
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
            JournalError: a line is not of the input at its place; or of a failure that other options led to.
        """
        if not self.can_resume or self._replaces:
            return
        self._file.seek(0)
        end = 0
        for line in self._file:
            parsed = _parsed(line) if line.endswith(b"\n") else None
            if parsed is None:
                if not self._is_cut_off(line):
                    raise self._foreign(": it is no JSON object")
                self._file.truncate(end)
                return
            self._check_line(parsed, next(inputs, _NO_INPUT))
            self._count(parsed)
            yield parsed
            end += len(line)

    def _is_cut_off(self, line: bytes) -> bool:
        """Return whether a line, and all behind it, is what a run leaves that was killed. Reads to the end."""
        if not line.endswith(b"\n") and (line.startswith(_BEGIN) or _BEGIN.startswith(line)):
            return True
        # A line that no run can have begun stays, unless there is nothing in it.
        return not line.strip(_BLANK) and not any(more.strip(_BLANK) for more in self._file)

    def _check_line(self, line: Mapping[str, Any], given: Any) -> None:
        if "input" not in line or "event" not in line:
            raise self._foreign(": it is no result")
        if given is _NO_INPUT:
            raise self._foreign(f": the inputs have ended after {self.done}")
        args = normalised(given)
        if line["input"] != args:
            recorded, here = _contrast(line["input"], given if args is None else args)
            raise self._foreign(f": it is of {recorded}, and the input is {here}")
        named = line.get(_BATCH)
        if isinstance(named, dict):
            self._named = named
        if line["event"] != Event.Completed.name:
            self._check_failure(self._named or {})

    def _check_failure(self, named: Mapping[str, Any]) -> None:
        """Would this batch have kept the failure in the next line?"""
        for name in _ABOUT_FAILURES:
            before, now = named.get(name), self._batch.get(name)
            # What is skipped is in the file as well.
            if ("yield" if before == "skip" else before) != ("yield" if now == "skip" else now):
                raise JournalError(
                    f"{self.path}, line {self.done + 1} is a failure with {name} {before!r}, and this batch has"
                    f" {name} {now!r}",
                    self._restart_hint,
                )

    def write(self, line: dict[str, Any]) -> None:
        """Append a line. It is with the operating system at once, and on the disk after a second or so.

        Raises:
            OSError: it can't be written.
        """
        if self._named != self._batch:
            line = {**line, _BATCH: self._batch}
        content = json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        with _naming(self.path):
            if self._replaces:
                self._file = replace(self._file, self.path, content)
                self._replaces = False
            else:
                self._file.write(content)
                self._file.flush()
            now = monotonic()
            if self.can_resume and now - self._synced > _SYNC_INTERVAL:
                self._synced = now
                os.fsync(self._file.fileno())
        self._named = self._batch
        self._count(line)

    def end(self) -> None:
        """All inputs have their lines. Forget those of an earlier batch if there are none.

        Raises:
            OSError: the file can't be written.
        """
        if self._replaces:
            with _naming(self.path):
                self._file.truncate(0)
            self._replaces = False

    def _count(self, line: Mapping[str, Any]) -> None:
        self.done += 1
        self.failed += line["event"] != Event.Completed.name


def _contrast(first: Any, second: Any) -> list[str]:
    """Return two values as text, shortened to where they differ."""
    texts = [json.dumps(value, ensure_ascii=False, default=repr) for value in (first, second)]
    same = next((place for place, (one, other) in enumerate(zip(*texts)) if one != other), min(map(len, texts)))
    begin = max(0, same - _SHOWN // 4)
    return [
        f"{'...' if begin else ''}{text[begin : begin + _SHOWN]}{'...' if len(text) > begin + _SHOWN else ''}"
        for text in texts
    ]


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
    start: Callable[[Iterator[Any], int], Iterable[CompletedInstance[Any] | Exception]],
    meter: ProgressMeter,
    form: ResultForm = ResultForm.JSON,
) -> Generator[Any, None, None]:
    """Yield the outcomes that a journal has, then those of the other inputs, which are written to it.

    Args:
        journal: the journal.
        inputs: all inputs.
        start: takes the inputs without a line, and the number of the first of them, and returns their outcomes. It
            is called behind the last line.
        meter: counts the lines.
        form: the form of the program's result.
    """
    lines = 0
    for line in journal.resume(inputs):
        lines += 1
        outcome = restore(line, form)
        meter.count(failed=isinstance(outcome, Exception), kept=True)
        yield outcome
    taken = RecordedInputs(inputs)
    for outcome in start(iter(taken), lines):
        journal.write(record(taken.next(), outcome))
        yield outcome
    journal.end()
