"""How a command is added: with the options that all of them have, its examples, and what becomes of its errors."""

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

__all__ = ["Options", "app", "command", "parameters"]

#: The order in which --help shows the commands.
_ORDER = ("run", "attach", "list", "terminate", "upload", "map", "query", "ping", "serve", "config")


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


#: The whole command. Without typer's own formatting, whose boxes cut examples into pieces.
app = typer.Typer(
    name="pie-sync",
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

#: What a command returns: its exit code; None is 0.
ExitCode = Union[int, None]


@dataclass(frozen=True)
class Options:
    """What was typed; None is what was not."""

    uri: str | None = None
    username: str | None = None
    key: Path | None = None
    identity: str | None = None
    timeout: float | None = None
    config: Path | None = None
    debug: bool | None = None

    def over(self, other: Options) -> Options:
        """Return these options, completed by others."""
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
        Optional[str], typer.Option("--username", metavar="NAME", help="Who you are.  [PIE_USERNAME]")
    ],
    "key": Annotated[
        Optional[Path],
        typer.Option("--key", metavar="FILE", help="Your private SSH key, if the server wants one.  [PIE_KEY]"),
    ],
    "identity": Annotated[
        Optional[str],
        typer.Option("--identity", metavar="TENANT/NAME", help="Who a Pie 0.5 server is told is there."),
    ],
    "timeout": Annotated[
        Optional[float],
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            help="How long to wait for each answer of the server; a program may run on.  [default: 30]",
        ),
    ],
    "config": Annotated[
        Optional[Path],
        typer.Option("--config", metavar="FILE", help="Configuration file.  [default: ~/.pie/cli_config.toml]"),
    ],
    "debug": Annotated[Optional[bool], typer.Option("--debug", help="Show a traceback with errors.")],
}


def parameters(names: tuple[str, ...] = tuple(_TYPES)) -> list[inspect.Parameter]:
    """Return options as the parameters of a function that typer reads."""
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
    """Add a function as a command. It is called with the :class:`Options` first, then its own arguments.

    Args:
        name: the command.
        examples: command lines for the end of ``--help``.
        options: which of the common options it has.
        group: where to add it.
        cls: the class that parses its arguments, instead of typer's own.
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
    """Call it, and turn what it raises into lines on stderr and an exit code."""
    try:
        with INTERRUPTION.work():
            return function() or 0
    except (KeyboardInterrupt, typer.Abort):  # the latter is Ctrl-D where something was asked
        return INTERRUPTION.exit_code
    except BrokenPipeError:
        # Whoever read our output went away, as `head` does: nobody is left to be told.
        return 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        if INTERRUPTION.has_come:
            # What follows an interruption is no news. It may even be the interruption: one that comes while a
            # class is being made reaches us as a RuntimeError.
            return INTERRUPTION.exit_code
        explanation = explain(error)
        say(f"error: {explanation.text}\ncure: {explanation.cure}")
        return 1
