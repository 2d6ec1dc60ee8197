"""The whole command: its parts, and what holds for all of them."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

from .._version import __version__
from . import _config, _instances, _map, _run, _serve, _server  # noqa: F401 - importing adds their commands
from ._command import Options, app, parameters
from ._failures import printable
from ._output import say

__all__ = ["run"]


def run() -> NoReturn:
    """Run the command with this process's arguments, and exit."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # What the terminal can't show is shown as its code, rather than to end the program.
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    try:
        app(prog_name="pie-sync")
    finally:
        _flush()
    sys.exit()


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"pie-sync {__version__}")
        raise typer.Exit


def _root(ctx: typer.Context, **given: Any) -> None:
    """Run programs on a Pie server, and manage the running ones.

    The options may stand before or after the command. What is not given is taken from the environment
    variable in brackets, then from the configuration file (`pie-sync config show`), else it's the default.
    """
    given.pop("version")
    ctx.obj = Options(**given)


def _add_root() -> None:
    version = inspect.Parameter(
        "version",
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[
            bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
        ],
    )
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    signature = inspect.Signature([context, version, *parameters()])
    _root.__signature__ = signature  # type: ignore[attr-defined]
    _root.__annotations__ = {name: given.annotation for name, given in signature.parameters.items()}
    app.callback(epilog="\b\nExamples:\n  pie-sync ping\n  pie-sync run ./hello.wasm -- world\n  pie-sync list")(
        _root
    )


_add_root()


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    say(f"warning: {printable(str(message))}")


def _flush() -> None:
    """Write what is left; if nobody reads it any more, so be it, rather than a complaint at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
