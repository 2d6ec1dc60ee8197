"""The sub-command ``map``: one instance for each line of a file."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import itertools
import os
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Optional, Union

import typer

from .._functions.inferlet import Inferlet
from .._runs.map import map_
from .._runs.program_reference import GivenProgram
from ..client import PieClient
from ..errors import InstanceFailed, PieTimeoutError, ProtocolError
from ._command import Options, command
from ._connection import connected
from ._failures import Failure, printable
from ._files import expand
from ._interruption import INTERRUPTION
from ._jsonl import Args, ResultFile, open_inputs, read_inputs, record
from ._output import say
from ._programs import file_of, function_of, upload_function, upload_if_lacking
from ._progress import counting_bar
from ._run import Program, TimeLimit
from ._settings import Settings


@command(
    "map",
    examples="""
pie-sync map std/text-completion prompts.jsonl --output answers.jsonl
pie-sync map script.py:complete inputs.jsonl --output results.jsonl
pie-sync map ./my_program.wasm inputs.jsonl --output results.jsonl --concurrency 64 --retries 2

A line of inputs is ["--prompt", "Hi"] or {"prompt": "Hi"}; one of results is
{"input": ..., "event": "Completed", "message": ..., "stdout": ..., "stderr": ..., "messages": [], "blobs": []}
""",
)
def map_command(
    options: Options,
    program: Program,
    file: Annotated[
        str,
        typer.Argument(metavar="FILE.jsonl", help="A JSON list or object of arguments per line; - is stdin."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="OUT.jsonl", help="The results, in the same order."),
    ],
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, help="How many may run at once.")] = 16,
    retries: Annotated[int, typer.Option("--retries", min=0, help="How often to run a failed input again.")] = 0,
    time_limit: TimeLimit = None,
    save_blobs: Annotated[
        Optional[Path],
        typer.Option(
            "--save-blobs",
            metavar="DIR",
            help="Save blobs in this folder instead of in the results.",
        ),
    ] = None,
) -> Optional[int]:
    """Run a program for each line of a file.

    If the run was stopped, or the connection was lost, the same command resumes it at the first input that has no
    result in the output yet. Failed inputs are marked in the output and do not stop the run; the loss of the
    server does.

    The exit code is 0 if all instances completed, 1 if not, and 130 after Ctrl-C.
    """
    settings = Settings.of(options)
    function = function_of(program)
    total = _check_inputs(file, function)
    with open_inputs(file) as source, ResultFile(expand(output)) as results:
        if results.is_same_file(file):
            raise Failure("the file of inputs can't be the output as well", "give another --output")
        inputs = read_inputs(source, file)
        results.resume(inputs)
        if results.done:
            say(f"[resumes after {results.done} results]")
        first = next(inputs, None)
        if first is not None:
            batch = _Batch(itertools.chain([first], inputs), results, save_blobs, total)
            with connected(settings) as client:
                if function is not None:
                    upload_function(client, function)
                else:
                    path = file_of(program)
                    if path is not None:
                        program = upload_if_lacking(client, path)
                batch.run(client, program if function is None else function, concurrency, retries, time_limit)
    failed = f", {results.failed} failed" if results.failed else ""
    say(f"[{results.done} done{failed}: {printable(str(output))}]")
    return 1 if results.failed else 0


def _check_inputs(file: str, function: "Optional[Inferlet[..., Any]]") -> Optional[int]:
    """Read all inputs, to find a mistake before anything runs; return their number, or None for a stream."""
    if file == "-" or not os.path.isfile(file):
        return None
    given = None if function is None else GivenProgram(function)
    number = 0
    with open_inputs(file) as source:
        for number, args in enumerate(read_inputs(source, file), 1):
            try:
                if given is not None:
                    given.check_args(args if isinstance(args, list) else dict(args))
            except TypeError as error:
                raise Failure(f"{file}, input {number}: {error}", "change the input or the function") from error
    return number


class _Batch:
    """The inputs that have no result yet."""

    def __init__(
        self, inputs: Iterator[Args], results: ResultFile, blobs: Optional[Path], total: Optional[int]
    ) -> None:
        self._inputs = inputs
        self._results = results
        self._blobs = blobs
        self._total = total
        # The inputs that map_() has taken and not answered yet, in order.
        self._pending: deque[Args] = deque()

    def _take(self) -> Iterator[Args]:
        while True:
            # Reading from a pipe can take any time, so an interruption may come here.
            with INTERRUPTION.release():
                args = next(self._inputs, None)
            if args is None:
                return
            self._pending.append(args)
            yield args

    def run(
        self,
        client: PieClient,
        program: "Union[str, Inferlet[..., Any]]",
        concurrency: int,
        retries: int,
        time_limit: Optional[float],
    ) -> None:
        """Run them, and write the results."""
        results = self._results
        outcomes = map_(
            client._manager,
            program,
            self._take(),
            concurrency=concurrency,
            retries=retries,
            return_exceptions=True,
            timeout=time_limit,
            check=INTERRUPTION.check,
        )
        try:
            with INTERRUPTION.hold(), closing(outcomes), counting_bar("Running", self._total) as update:
                update(results.done)
                for outcome in outcomes:
                    if isinstance(outcome, Exception) and not _concerns_one_input(outcome):
                        raise outcome
                    results.write(record(self._pending.popleft(), outcome, self._blobs))
                    update(results.done)
                    INTERRUPTION.check()
        except BaseException:
            of = "" if self._total is None else f" of {self._total}"
            say(f"[stopped: {results.done}{of} done; the same command resumes from there]")
            raise


def _concerns_one_input(error: Exception) -> bool:
    """Whether an error is the result of one input; else it concerns all, such as a lost connection."""
    if isinstance(error, PieTimeoutError):
        return error.instance_id is not None  # else the server does not answer
    return isinstance(error, (InstanceFailed, ProtocolError))
