"""Registers sub-commands with the common options, with examples, and with one way to report errors."""

from __future__ import annotations

import inspect
import traceback
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Callable, Optional, Union

import typer
from typer.core import TyperGroup

from ._failures import explain
from ._interruption import INTERRUPTION
from ._output import say

__all__ = ["Options", "app", "command", "parameters", "report"]

#: The order in which --help shows the commands.
_ORDER = ("run", "attach", "list", "terminate", "upload", "map", "query", "ping", "serve", "config")


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


#: The root command. typer's own formatting is off: its boxes break examples into pieces.
app = typer.Typer(
    name="pie-sync",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: What a sub-command returns: the exit code of the process; None stands for 0.
ExitCode = Union[int, None]


@dataclass(frozen=True)
class Options:
    """The common options as they were typed; None for each that was not."""

    uri: str | None = None
    username: str | None = None
    key: Path | None = None
    identity: str | None = None
    timeout: float | None = None
    config: Path | None = None
    debug: bool | None = None

    def over(self, other: Options) -> Options:
        """Return these options, with those of ``other`` for each that is None."""
        merged = {}
        for field in fields(self):
            mine = getattr(self, field.name)
            merged[field.name] = getattr(other, field.name) if mine is None else mine
        return Options(**merged)


_TYPES: dict[str, Any] = {
    "uri": Annotated[
        Optional[str],
        typer.Option("--uri", metavar="URI", help="The server, as ws://HOST:PORT or wss://HOST:PORT.  [PIE_URI]"),
    ],
    "username": Annotated[
        Optional[str], typer.Option("--username", metavar="NAME", help="Your user name there.  [PIE_USERNAME]")
    ],
    "key": Annotated[
        Optional[Path],
        typer.Option("--key", metavar="FILE", help="Your private SSH key, if the server asks for one.  [PIE_KEY]"),
    ],
    "identity": Annotated[
        Optional[str],
        typer.Option("--identity", metavar="TENANT/NAME", help="The identity header for a Pie 0.5 server."),
    ],
    "timeout": Annotated[
        Optional[float],
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="How long each answer of the server may take; programs may run longer.  [default: 30]",
        ),
    ],
    "config": Annotated[
        Optional[Path],
        typer.Option("--config", metavar="FILE", help="Configuration file.  [default: ~/.pie/cli_config.toml]"),
    ],
    "debug": Annotated[Optional[bool], typer.Option("--debug", help="Show a traceback with errors.")],
}


def parameters(names: tuple[str, ...] = tuple(_TYPES)) -> list[inspect.Parameter]:
    """Return common options as parameters of the kind that typer reads from a function's signature."""
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(Options, name),
            annotation=_TYPES[name],
        )
        for name in names
    ]


def command(
    name: str,
    *,
    examples: str,
    options: tuple[str, ...] = tuple(_TYPES),
    group: typer.Typer = app,
    cls: Any = None,
) -> Callable[[Callable[..., ExitCode]], Callable[..., ExitCode]]:
    """Add a function as a sub-command. It is called with the :class:`Options`, then with its own arguments.

    Args:
        name: the name of the sub-command.
        examples: command lines that ``--help`` shows at its end.
        options: which of the common options the sub-command has.
        group: the command to add it to.
        cls: a class that parses the arguments in place of typer's own.
    """

    def register(function: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
        def call(ctx: typer.Context, **given: Any) -> None:
            typed = Options(**{option: given.pop(option) for option in options})
            typed = typed.over(ctx.obj)
            raise typer.Exit(_guarded(lambda: function(typed, **given), debug=bool(typed.debug)))

        own = list(inspect.signature(function).parameters.values())[1:]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        signature = inspect.Signature([context, *own, *parameters(options)])
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {
            parameter.name: parameter.annotation for parameter in signature.parameters.values()
        }
        call.__doc__ = function.__doc__
        # \b: click keeps the line breaks of what follows.
        epilog = "\b\nExamples:\n" + "\n".join(f"  {line}" for line in examples.strip().splitlines())
        group.command(name, epilog=epilog, cls=cls)(call)
        return function

    return register


def _guarded(function: Callable[[], ExitCode], *, debug: bool) -> int:
    """Call a sub-command, and turn its exceptions into an error report and an exit code."""
    try:
        with INTERRUPTION.work():
            return function() or 0
    except (KeyboardInterrupt, typer.Abort):  # typer.Abort is Ctrl-D in answer to a question
        return INTERRUPTION.exit_code
    except BrokenPipeError:
        # The reader of the output has gone away, as `head` does: there is nobody to report to.
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        if INTERRUPTION.has_come:
            # What fails after an interruption is no news. The error may even be the interruption: Python turns a
            # KeyboardInterrupt that comes while a class is being made into a RuntimeError.
            return INTERRUPTION.exit_code
        return report(error)


def report(error: BaseException) -> int:
    """Tell the user about an error in one line, with a hint in another; return the exit code."""
    explanation = explain(error)
    say(f"error: {explanation.text}\nhint: {explanation.hint}")
    return 1
