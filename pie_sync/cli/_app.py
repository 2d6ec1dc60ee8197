"""The whole command: all sub-commands, the root options, and what happens at the end of the process."""

from __future__ import annotations

import inspect
import sys
import warnings
from typing import Annotated, Any, NoReturn

import typer

from .._version import __version__
from . import _config, _instances, _map, _run, _serve, _server  # noqa: F401 - importing them adds their commands
from ._command import Options, app, parameters, report, unwrapped
from ._failures import printable
from ._output import echo, say, writing
from ._streams import flush_streams, tolerate_any_text

__all__ = ["run"]


def run() -> NoReturn:
    """Run the command with this process's arguments, and exit."""
    tolerate_any_text()
    warnings.showwarning = _show_warning
    code: Any = 0
    try:
        with writing("the output"):  # of `--help`, for example, which typer writes
            app(prog_name="pie-sync")
    except SystemExit as end:
        code = end.code
    except Exception as error:  # those of sub-commands have been reported already, see `_command`
        code = report(error)
    flush_streams()
    sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        echo(f"pie-sync {__version__}")
        raise typer.Exit


def _root(ctx: typer.Context, **given: Any) -> None:
    """Run programs on a Pie server, and manage running instances.

    The options may stand before or after the command. An option that is not given is taken from its environment
    variable, then from the configuration file (`pie-sync config show`), then from the defaults.
    """
    given.pop("version")
    ctx.obj = Options.typed(ctx, given)


def _add_root() -> None:
    _root.__doc__ = unwrapped(_root.__doc__ or "")
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
    app.callback(epilog="pie-sync ping\npie-sync run ./hello.wasm -- world\npie-sync list")(_root)


_add_root()


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    say(f"warning: {printable(str(message))}")
