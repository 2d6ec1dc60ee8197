"""Registers sub-commands with the common options, with examples, and with one way to report errors."""

from __future__ import annotations

import inspect
import re
import traceback
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Callable, Optional, Union

import typer
from typer.core import TyperCommand, TyperGroup

from ._completion import complete_profile
from ._failures import explain
from ._interruption import INTERRUPTION
from ._output import CYAN, RED, say, styled

__all__ = ["Command", "Options", "app", "command", "parameters", "report", "unwrapped"]

#: The order in which --help shows the commands.
_ORDER = ("run", "attach", "list", "terminate", "upload", "map", "query", "ping", "serve", "config")

#: What other commands call the same, and what users therefore type.
_OTHER_NAMES = {
    "abort": "terminate",
    "exec": "run",
    "instances": "list",
    "kill": "terminate",
    "launch": "run",
    "logs": "attach",
    "ls": "list",
    "ps": "list",
    "push": "upload",
    "rm": "terminate",
    "server": "serve",
    "start": "run",
    "status": "list",
    "stop": "terminate",
    "submit": "run",
}


class _WithExamples:
    """Help that ends with examples, line by line: typer itself would make one paragraph of an epilog."""

    epilog: str | None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        examples, self.epilog = self.epilog or "", None
        for option in self.get_params(ctx):  # type: ignore[attr-defined]
            if getattr(option, "is_flag", False) and option.metavar is None:
                option.metavar = ""  # newer releases of typer show the type of a flag, which takes no value
        try:
            super().format_help(ctx, formatter)  # type: ignore[misc]
        finally:
            self.epilog = examples
        from rich.console import Console  # noqa: PLC0415 - takes 0.1 s
        from rich.panel import Panel  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        lines, _, rest = examples.partition("\n\n")
        panel = Panel(Text(lines, overflow="fold"), title="Examples", title_align="left", border_style="dim")
        console = Console(highlight=False)
        console.print(panel)
        if rest:
            console.print(Text(f" {rest}\n"))


class Command(_WithExamples, TyperCommand):
    """A sub-command, with examples in its help."""


class _Commands(_WithExamples, TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:  # its class depends on the version of typer
            other = _OTHER_NAMES.get(args[0])
            if other is not None and hasattr(error, "message"):
                error.message = f"No such command {args[0]!r}. Did you mean {other!r}?"
            raise


#: The root command.
app = typer.Typer(
    name="pie-sync",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",  # older releases of typer show marks as they are
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
    profile: str | None = None
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

    @classmethod
    def typed(cls, ctx: typer.Context, given: dict[str, Any]) -> Options:
        """Return the options that were typed. Typer takes values from the environment as well.

        Those come behind the options before the command, and behind a profile: the settings look them up.
        """
        names = [name for name, value in given.items() if value is not None]
        sources = {name: ctx.get_parameter_source(name) for name in names}
        return cls(**{name: given[name] for name, source in sources.items() if _is_typed(source)})


def _is_typed(source: Any) -> bool:
    return source is not None and source.name == "COMMANDLINE"


def _with_default(text: str, default: str) -> str:
    """Return a help text with a default as typer shows those that are values. Others get two pairs of brackets."""
    return rf"{text} [dim]\[default: {default}][/dim]"


#: For each common option: its type, its name, and what typer.Option takes.
_COMMON: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "uri": (
        Optional[str],
        "--uri",
        {
            "metavar": "URI",
            "help": _with_default("The server, as ws://HOST:PORT or wss://HOST:PORT.", "ws://127.0.0.1:8080"),
            "envvar": "PIE_URI",
        },
    ),
    "username": (
        Optional[str],
        "--username",
        {
            "metavar": "NAME",
            "help": _with_default("Your user name there.", "the login name"),
            "envvar": "PIE_USERNAME",
        },
    ),
    "key": (
        Optional[Path],
        "--key",
        {
            "metavar": "FILE",
            "help": _with_default("Your private SSH key, if the server asks for one.", "the first in ~/.ssh"),
            "envvar": "PIE_KEY",
        },
    ),
    "identity": (
        Optional[str],
        "--identity",
        {
            "metavar": "TENANT/NAME",
            "help": _with_default("The identity header for a Pie 0.5 server.", "default/pie-sync"),
            "envvar": "PIE_IDENTITY",
        },
    ),
    "profile": (
        Optional[str],
        "--profile",
        {
            "metavar": "NAME",
            "help": "A server of the configuration file: its values come before the environment.",
            "envvar": "PIE_PROFILE",
            "autocompletion": complete_profile,
        },
    ),
    "timeout": (
        Optional[float],
        "--timeout",
        {
            "metavar": "SECONDS",
            "help": _with_default("How long each answer of the server may take; programs may run longer.", "30"),
        },
    ),
    "config": (
        Optional[Path],
        "--config",
        {
            "metavar": "FILE",
            "help": _with_default("Configuration file.", "~/.pie/cli_config.toml"),
        },
    ),
    "debug": (Optional[bool], "--debug", {"help": "Show a traceback with errors."}),
}

#: The options of a command that talks to a server.
ALL_OPTIONS = tuple(_COMMON)


def parameters(
    names: tuple[str, ...] = ALL_OPTIONS, shown: tuple[str, ...] = ALL_OPTIONS
) -> list[inspect.Parameter]:
    """Return common options as parameters of the kind that typer reads from a function's signature.

    Args:
        names: which options.
        shown: which of them ``--help`` shows.
    """
    found = []
    for name in names:
        kind, option, details = _COMMON[name]
        where: dict[str, Any] = {"rich_help_panel": "Connection"} if name in shown else {"hidden": True}
        found.append(
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=getattr(Options, name),
                annotation=Annotated[kind, typer.Option(option, **details, **where)],
            )
        )
    return found


def command(
    name: str,
    *,
    examples: str,
    options: tuple[str, ...] = ALL_OPTIONS,
    shown: tuple[str, ...] = (),
    group: typer.Typer = app,
    cls: Any = Command,
) -> Callable[[Callable[..., ExitCode]], Callable[..., ExitCode]]:
    """Add a function as a sub-command. It is called with the :class:`Options`, then with its own arguments.

    Args:
        name: the name of the sub-command.
        examples: command lines that ``--help`` shows at its end.
        options: which of the common options the sub-command has.
        shown: which of them its help explains; the others are explained once, in the help of ``pie-sync``.
        group: the command to add it to.
        cls: the class that parses the arguments.
    """

    def register(function: Callable[..., ExitCode]) -> Callable[..., ExitCode]:
        def call(ctx: typer.Context, **given: Any) -> None:
            typed = Options.typed(ctx, {option: given.pop(option) for option in options})
            typed = typed.over(ctx.obj)
            raise typer.Exit(_guarded(lambda: function(typed, **given), debug=bool(typed.debug)))

        own = list(inspect.signature(function).parameters.values())[1:]
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        signature = inspect.Signature([context, *own, *parameters(options, shown)])
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {
            parameter.name: parameter.annotation for parameter in signature.parameters.values()
        }
        call.__doc__ = unwrapped(function.__doc__ or "")
        hidden = [_COMMON[option][1] for option in options if option not in shown]
        epilog = f"{examples.strip()}\n\nAlso {' '.join(hidden)}: see pie-sync --help"
        group.command(name, epilog=epilog, cls=cls)(call)
        return function

    return register


def unwrapped(text: str) -> str:
    """Return a docstring with each paragraph on one line: the terminal decides where lines end."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.cleandoc(text))


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
    say(f"{styled('error:', RED)} {explanation.text}")
    if explanation.hint:
        say(f"{styled('hint:', CYAN)} {explanation.hint}")
    return 1
