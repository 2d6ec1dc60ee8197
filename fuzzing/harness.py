"""Turns bytes into decisions for all targets, knows where their inputs are kept, and runs libFuzzer.

A target is a module with two functions: ``check(data)``, which uses the bytes and raises if a promise is broken,
and ``seeds()``, which yields the first inputs. Neither needs atheris, which only :func:`fuzz` imports: the tests
call ``check`` with the kept inputs.
"""

from __future__ import annotations

import importlib
import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import ModuleType

T = TypeVar("T")

#: The targets, each with its share of the time.
TARGETS = {"frames": 1, "messages": 1, "blobs": 1, "session": 3}

ROOT = Path(__file__).parent

#: The most bytes of one input. Longer data is made by a decision: a frame of 70 000 bytes takes three bytes.
MAX_INPUT = 2048


class Source:
    """Takes decisions from bytes, one after another; when the bytes are used up, every further decision is 0.

    This is not ``atheris.FuzzedDataProvider``, because the kept inputs have to mean the same without atheris, and
    with its next version. Bytes are used in order, so that an input can be cut off anywhere, and one decision can
    be changed alone.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._position < len(self._data)

    def take(self, size: int) -> bytes:
        """Return the next ``size`` bytes; fewer at the end."""
        taken = self._data[self._position : self._position + size]
        self._position += len(taken)
        return taken

    def number(self, size: int = 1) -> int:
        """Return an unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def pick(self, things: Sequence[T]) -> T:
        """Return one of up to 256 things."""
        return things[self.number() % len(things)]

    def piece(self) -> bytes:
        """Return up to 255 bytes; the first byte is their number."""
        return self.take(self.number())

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data))


def feed(reader: Any, data: bytes, size: int = sys.maxsize) -> list[tuple[int, bytes | str]]:
    """Give a ``FrameReader`` bytes, ``size`` at a time, up to its first error; return copies of the messages."""
    # Imported here, because a target decides when this module is imported and instrumented.
    from pie_sync._transport.frames import opcode_and_payload

    messages: list[tuple[int, bytes | str]] = []
    left = memoryview(data)
    while left and reader.error is None:
        buffer = reader.buffer()
        assert len(buffer) > 0, "no room would look like the end of the stream"
        count = min(len(buffer), len(left), size)
        buffer[:count], left = left[:count], left[count:]
        for opcode, payload in map(opcode_and_payload, reader.received(count)):
            messages.append((opcode, payload if isinstance(payload, str) else bytes(payload)))
    return messages


def load(target: str) -> ModuleType:
    """Import a target by its short name."""
    return importlib.import_module(f"fuzzing.fuzz_{target}")


def corpus(target: str) -> Path:
    """Return the folder of a target's kept inputs."""
    return ROOT / "corpus" / target


def kept_inputs(target: str) -> Iterator[Path]:
    """Yield the files with a target's kept inputs: those of the corpus, and former findings."""
    for folder in (corpus(target), ROOT / "findings" / target):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.is_file())


def fuzz(target: str, arguments: list[str]) -> None:
    """Fuzz one target in this process, and end the process. ``arguments`` are libFuzzer's."""
    import atheris

    # The first import must be here: code that was imported before is not instrumented.
    with atheris.instrument_imports(include=["pie_sync"]):
        module = load(target)
    logging.disable()
    # This replaces the name of the program: to merge inputs, libFuzzer starts it again in a shell.
    program = f"{shlex.quote(sys.executable)} -m fuzzing.harness {target}"
    atheris.Setup([program, f"-max_len={MAX_INPUT}", *arguments], module.check)
    atheris.Fuzz()


if __name__ == "__main__":
    fuzz(sys.argv[1], sys.argv[2:])
