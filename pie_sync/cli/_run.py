"""The sub-commands for programs: ``run``, ``attach`` and ``upload``."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

from pathlib import Path
from typing import Annotated, Any, Optional, Union

import typer

from .._connection.instances import HAS_ENDED
from .._functions.inferlet import Inferlet
from .._runs.program_reference import GivenProgram
from ..client import PieClient
from ..errors import LaunchError
from ._command import Command, Options, command
from ._completion import complete_instance
from ._connection import connected
from ._failures import Failure
from ._files import expand
from ._foreground import Foreground
from ._interruption import INTERRUPTION
from ._lookup import find
from ._output import echo, say
from ._programs import file_of, function_of, linked, upload, upload_function, upload_if_lacking
from ._settings import Settings

Program = Annotated[
    str,
    typer.Argument(
        metavar="PROGRAM",
        help="A name, a hash, the path of a .wasm file, or script.py:function.",
        show_default=False,
    ),
]
SaveBlobs = Annotated[
    Optional[Path],
    typer.Option("--save-blobs", metavar="DIR", help="Save blobs that the instance sends in this folder."),
]
SendStdin = Annotated[
    bool, typer.Option("--send-stdin", help="Send each line of stdin to the instance as a message.")
]

TimeLimit = Annotated[
    Optional[float],
    typer.Option(
        "--time-limit",
        min=0,
        metavar="SECONDS",
        help="How long an instance may run: it is terminated then.",
    ),
]


def check_time_limit(seconds: Optional[float]) -> None:
    """Raise a :class:`Failure` unless ``--time-limit`` leaves an instance any time."""
    if seconds is not None and not seconds > 0:
        raise Failure(f"--time-limit must be more than 0 seconds, not {seconds:g}", "leave it out for no limit")


class RunCommand(Command):
    """The parser of ``run``, whose error for an unknown option tells how to pass options to the program."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            # The class of the exception depends on the version of typer; its attributes don't.
            if hasattr(error, "option_name") and isinstance(getattr(error, "message", None), str):
                error.message += " (options for the program itself go after --)"  # type: ignore[attr-defined]
            raise


@command(
    "run",
    examples="""
pie-sync run std/text-completion -- --prompt "Once upon a time"
pie-sync run ./my_program.wasm > answer.txt
pie-sync run script.py:complete -- --prompt Hello
pie-sync run chat --send-stdin --save-blobs pictures
id=$(pie-sync run --detach nightly-report); pie-sync attach $id
""",
    cls=RunCommand,
)
def run(
    options: Options,
    program: Program,
    args: Annotated[
        Optional[list[str]],
        typer.Argument(metavar="ARGS", help="The program's arguments; options after --."),
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Launch it, print its id for `attach`, and exit.")
    ] = False,
    save_blobs: SaveBlobs = None,
    send_stdin: SendStdin = False,
    time_limit: TimeLimit = None,
    link: Annotated[
        Optional[list[Path]],
        typer.Option("--link", "-l", metavar="LIB", help="Link this .wasm library into it (with wac)."),
    ] = None,
) -> Optional[int]:
    """Run a program and show its output.

    What the program prints goes to stdout and stderr. Its messages and its result are lines on stdout. A .wasm
    file or a Python function is uploaded first if the server doesn't have it.

    Ctrl-C terminates the instance and shows its end; a second Ctrl-C exits at once. SIGTERM, closing the terminal
    and the end of --time-limit terminate it as well. Ctrl-D leaves it running, on servers up to Pie 0.2.

    The exit code is 0 if the instance completed, 1 if not, and 130 after Ctrl-C.
    """
    check_time_limit(time_limit)
    function = function_of(program)
    path = None if function is not None else file_of(program)
    if link and path is None:
        raise Failure("--link needs a program that is a file", "run it as ./NAME.wasm")
    if detach and (send_stdin or save_blobs):
        raise Failure(
            "--detach exits before --send-stdin or --save-blobs could do anything",
            "give them to `pie-sync attach ID`",
        )
    if detach and time_limit is not None:
        raise Failure("--detach exits before --time-limit is over", "`pie-sync terminate ID` ends the instance")
    settings = Settings.of(options)
    with connected(settings) as client:
        if path is not None:
            with linked(path, link or []) as composed:
                program = upload_if_lacking(client, composed)
        launched: Union[str, Inferlet[..., Any]] = program
        if function is not None:
            launched = function
            GivenProgram(function).check_args(args or [])
            upload_function(client, function)
        if detach:
            _launch_detached(client, launched, args or [])
            return 0
        return Foreground(
            client,
            lambda: client.launch(launched, args or []),
            blobs=save_blobs,
            send_stdin=send_stdin,
            timeout=settings.timeout,
            time_limit=time_limit,
        ).run()


def _launch_detached(client: PieClient, program: "Union[str, Inferlet[..., Any]]", args: list[str]) -> None:
    """Launch an instance and print its id. If the id can't be printed, terminate the instance: nobody knows it."""
    with INTERRUPTION.hold():
        try:
            instance = client.launch(program, args, detached=True)
        except LaunchError as error:
            if error.reason != HAS_ENDED:
                raise
            say("[launched, and ended already: this server tells its id and its end only without --detach]")
            return
        if INTERRUPTION.has_come:
            instance.terminate()
            return
        try:
            echo(instance.id)
        except OSError:
            instance.terminate()
            raise


@command(
    "attach",
    examples="""
pie-sync attach 3f2a
pie-sync attach 3f2a --send-stdin < questions.txt
""",
)
def attach(
    options: Options,
    instance: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="The id of the instance, or the first characters of it.",
            autocompletion=complete_instance,
        ),
    ],
    save_blobs: SaveBlobs = None,
    send_stdin: SendStdin = False,
) -> Optional[int]:
    """Take over a detached instance.

    Shows the output that the server has kept, then new output. Everything else is as in `run`.
    """
    settings = Settings.of(options)
    with connected(settings) as client:
        instance_id = find(client, instance)
        return Foreground(
            client,
            lambda: client.attach_instance(instance_id),
            blobs=save_blobs,
            send_stdin=send_stdin,
            timeout=settings.timeout,
            tells_end=True,
        ).run()


@command(
    "upload",
    examples="""
pie-sync upload my_program.wasm
pie-sync upload my_program.py --manifest Pie.toml
hash=$(pie-sync upload my_program.wasm); pie-sync run $hash
""",
)
def upload_command(
    options: Options,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The program.")],
    manifest: Annotated[
        Optional[Path],
        typer.Option("--manifest", metavar="TOML", help="The manifest, with a name to run the program by."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace another program of the same name and version.")
    ] = False,
) -> None:
    """Upload a program.

    Prints its hash, by which it can be run. A program that the server has already is not sent again.
    """
    file = expand(file)
    if file.is_dir():
        raise Failure(f"{file} is a folder", "give the program's file, such as program.wasm")
    if not file.is_file():
        raise Failure(f"there is no file {file}", "is the path right?")
    with connected(Settings.of(options)) as client:
        if manifest is None and not overwrite:
            echo(upload_if_lacking(client, file))
            return
        program_hash = upload(client, file, manifest=manifest and expand(manifest), overwrite=overwrite)
        echo(program_hash)
        say(f"[uploaded {file.name}]")
