"""The sub-command ``map``: one instance for each line of a file."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import dataclasses
import itertools
import os
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Annotated, Any, Callable, Optional, Union

import typer

from .._functions.inferlet import Inferlet
from .._runs.journal import Journal
from .._runs.map import map_
from .._runs.program_reference import GivenProgram, identity_of
from .._runs.progress import ProgressMeter
from .._runs.records import Args, record
from ..errors import InstanceFailed, PieTimeoutError, ProtocolError
from ._command import Options, command
from ._connection import connected
from ._failures import Failure, printable
from ._files import expand
from ._interruption import INTERRUPTION
from ._jsonl import PrintedResults, open_inputs, read_inputs
from ._map_servers import endpoints_of, map_on_servers, servers_in_notes
from ._output import say
from ._programs import file_of, function_of, upload_function, upload_if_lacking
from ._progress import ProgressMode, batch_progress
from ._run import Program, TimeLimit, check_time_limit
from ._settings import Settings

#: Where results go.
Results = Union[Journal, PrintedResults]

#: A program: a name or a hash, the path of a file, or a function.
_Given = Union[str, Path, "Inferlet[..., Any]"]  # Python 3.9 can't evaluate it

#: Takes inputs and a meter, and returns the outcomes.
Start = Callable[[Iterator[Args], ProgressMeter], Generator[Any, None, None]]


@command(
    "map",
    options=("username", "key", "identity", "profile", "timeout", "config", "debug"),
    examples="""
pie-sync map std/text-completion prompts.jsonl --output answers.jsonl
pie-sync map script.py:complete inputs.jsonl --output results.jsonl
pie-sync map ./my_program.wasm inputs.jsonl --output results.jsonl --concurrency 64 --retries 2
pie-sync map --uri ws://gpu1:8080 --uri ws://gpu2:8080 std/chat prompts.jsonl -o answers.jsonl
pie-sync map std/chat prompts.jsonl -o - | jq .stdout

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
        typer.Option("--output", "-o", metavar="OUT.jsonl", help="The results, in the same order; - is stdout."),
    ],
    uri: Annotated[
        Optional[list[str]],
        typer.Option(
            "--uri",
            metavar="URI",
            help="The server, as ws://HOST:PORT or wss://HOST:PORT; several share the batch.  [PIE_URI]",
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, help="How many may run at once on each server.")
    ] = 16,
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
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew, and forget the results in the output.")
    ] = False,
    progress: Annotated[
        ProgressMode,
        typer.Option("--progress", help="Show how far it is: a bar on a terminal, elsewhere now and then a line."),
    ] = ProgressMode.auto,
) -> Optional[int]:
    """Run a program for each line of a file.

    If the run was stopped, or the connection was lost, the same command resumes it at the first input that has no
    result in the output yet. Failed inputs are marked in the output and do not stop the run; the loss of the
    server does, or of all servers for a minute.

    The exit code is 0 if all instances completed, 1 if not, and 130 after Ctrl-C.
    """
    addresses: list[Optional[str]] = list(uri) if uri else [options.uri]
    servers = [Settings.of(dataclasses.replace(options, uri=one)) for one in addresses]
    check_time_limit(time_limit)
    function = function_of(program)
    given: _Given = program if function is None else function
    if function is None:
        given = file_of(program) or program
    total = _check_inputs(file, function)
    batch = {
        "program": identity_of(given),
        "retries": retries,
        "on_error": "yield",
        "timeout": time_limit,
        "save_blobs": None if save_blobs is None else str(save_blobs),
    }
    with open_inputs(file) as source, closing(_open_results(output, batch, file, restart)) as results:
        inputs = read_inputs(source, file)
        _skip_done(results, inputs)
        if results.done:
            say(f"[resumes after {results.done} results]")
        first = next(inputs, None)
        if first is not None:
            writer = _Writer(itertools.chain([first], inputs), results, save_blobs, total, restart)
            with ExitStack() as stack:
                start = _prepare(stack, servers, given, concurrency, retries, time_limit)
                writer.run(start, progress)
        results.end()
    failed = f", {results.failed} failed" if results.failed else ""
    place = "" if isinstance(results, PrintedResults) else f": {printable(str(output))}"
    say(f"[{results.done} done{failed}{place}]")
    return 1 if results.failed else 0


def _open_results(output: Path, batch: dict[str, Any], inputs: str, restart: bool) -> Results:
    if str(output) == "-":
        return PrintedResults()
    path = expand(output)
    if inputs != "-" and path.exists() and path.samefile(inputs):
        raise Failure("the file of inputs can't be the output as well", "give another --output")
    return Journal(
        path,
        batch,
        restart=restart,
        restart_hint="--restart begins anew, --output FILE writes to another file",
        busy_hint="wait for it, or give another --output",
        on_wait=lambda: say(f"[waits until somebody reads {printable(str(output))}]"),
    )


def _skip_done(results: Results, inputs: Iterator[Args]) -> None:
    for _ in results.resume(inputs):
        pass


def _prepare(
    stack: ExitStack,
    servers: list[Settings],
    given: _Given,
    concurrency: int,
    retries: int,
    time_limit: Optional[float],
) -> Start:
    """Connect to the servers, and upload a function or a file; return what starts the batch."""
    if len(servers) > 1:
        endpoints = endpoints_of(servers)
        stack.enter_context(servers_in_notes())
        return lambda inputs, meter: map_on_servers(
            endpoints,
            given,
            inputs,
            concurrency=concurrency,
            retries=retries,
            timeout=time_limit,
            meter=meter,
        )
    client = stack.enter_context(connected(servers[0]))
    if isinstance(given, Inferlet):
        upload_function(client, given)
    found = upload_if_lacking(client, given) if isinstance(given, Path) else given
    return lambda inputs, meter: map_(
        client._manager,
        found,
        inputs,
        concurrency=concurrency,
        retries=retries,
        on_error="yield",
        timeout=time_limit,
        progress=meter,
        check=INTERRUPTION.check,
    )


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


class _Writer:
    """The inputs that have no result yet."""

    def __init__(
        self,
        inputs: Iterator[Args],
        results: Results,
        blobs: Optional[Path],
        total: Optional[int],
        restart: bool,
    ) -> None:
        self._inputs = inputs
        self._results = results
        self._blobs = blobs
        self._total = total
        self._restart = restart
        # The inputs that were taken and have no outcome yet, in order.
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

    def run(self, start: Start, mode: ProgressMode) -> None:
        """Run them, and write the results."""
        results = self._results
        try:
            with ExitStack() as stack:
                stack.enter_context(INTERRUPTION.hold())
                meter = ProgressMeter(stack.enter_context(batch_progress("Running", mode)))
                meter.total = self._total
                for number in range(results.done):
                    meter.count(failed=number < results.failed, kept=True)
                outcomes = stack.enter_context(closing(start(self._take(), meter)))
                for outcome in outcomes:
                    if isinstance(outcome, Exception) and not _concerns_one_input(outcome):
                        raise outcome
                    results.write(record(self._pending.popleft(), outcome, self._blobs))
                    INTERRUPTION.check()
        except BaseException:
            of = "" if self._total is None else f" of {self._total}"
            say(f"[stopped: {results.done}{of} done{self._resumption()}]")
            raise

    def _resumption(self) -> str:
        """Return what the same command would do."""
        if not self._results.can_resume:
            return ""
        if not self._restart:
            return "; the same command resumes from there"
        if not self._results.done:
            return "; the output is as it was"
        return "; the same command without --restart resumes from there"


def _concerns_one_input(error: Exception) -> bool:
    """Whether an error is the result of one input; else it concerns all, such as a lost connection."""
    if isinstance(error, PieTimeoutError):
        return error.instance_id is not None  # else the server does not answer
    return isinstance(error, (InstanceFailed, ProtocolError))
