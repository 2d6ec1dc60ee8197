"""The commands ``config init``, ``config show`` and ``config set``."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import os
import select
import sys
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from ..errors import InvalidKeyError
from ..keys import ParsedPrivateKey
from ._command import Options, app, command
from ._config_file import KEYS, ConfigFile, Value, default_path, parse_value
from ._failures import Failure, explain, printable
from ._interruption import NAP
from ._output import say
from ._settings import KEY_NAMES, Settings

group = typer.Typer(
    help="Show and change the settings.\n\nThe configuration file is that of the official client's command.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(group, name="config")


@command(
    "init",
    group=group,
    options=("uri", "username", "key", "config", "debug"),
    examples="""
pie-sync config init
pie-sync config init --uri ws://gpu-box:8080 --username alice --key ~/.ssh/id_pie
pie-sync config init --no-auth
""",
)
def init(
    options: Options,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Never use a private key.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if there is one.")] = False,
) -> None:
    """Write a configuration file.

    It gets what is typed or found in the environment, else the defaults.
    """
    path = options.config.expanduser() if options.config else default_path()
    if path.exists() and not force:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Failure(f"there is {path} already", "--force overwrites it")
        if not _confirms(f"There is {path} already. Overwrite it?"):
            say("[left as it was]")
            return
    values = _initial(options, with_key=not no_auth)
    file = ConfigFile(path, None)
    for key, value in values.items():
        file = ConfigFile(path, file.text_with(key, value))
    _write(file)
    say(f"[wrote {path}]")
    if not no_auth:
        _check_key(str(values["private_key_path"]))


def _confirms(question: str) -> bool:
    """Ask the person at the terminal; an empty answer is a no.

    Not by typer.confirm(): a Ctrl-C that arrives in the moment in which that begins to wait does not wake it.
    """
    while True:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        # Windows has no select() for a terminal.
        while os.name == "posix" and not select.select([sys.stdin], [], [], NAP)[0]:
            pass
        answer = sys.stdin.readline()
        if not answer:  # Ctrl-D
            raise typer.Abort
        if answer.strip().lower() in ("y", "yes"):
            return True
        if answer.strip().lower() in ("", "n", "no"):
            return False


def _initial(options: Options, *, with_key: bool) -> dict[str, Value]:
    # As if there were no file: that is what is being made.
    settings = Settings.of(options, ConfigFile(default_path(), None))
    parts = urlsplit(settings.uri.value)
    if parts.scheme != "ws" or not parts.hostname or parts.path.strip("/"):
        raise Failure(
            f"the file has only host and port: it can't say {settings.uri.value}",
            "set the environment variable PIE_URI to that, and leave out --uri here",
        )
    key = f"~/.ssh/{KEY_NAMES[0]}" if settings.key is None else str(settings.key)
    return {
        "host": parts.hostname,
        "port": parts.port or 80,
        "username": settings.username.value,
        "private_key_path": key if with_key else "",
        "enable_auth": with_key,
    }


@command(
    "show",
    group=group,
    examples="""
pie-sync config show
PIE_USERNAME=bob pie-sync config show
""",
)
def show(options: Options) -> None:
    """Show the settings, and where each is from."""
    settings = Settings.of(options)
    key = "-" if settings.key is None else str(settings.key)
    rows = [
        ("uri", *settings.uri),
        ("username", *settings.username),
        ("key", key, settings.key_origin),
        ("identity", *settings.identity),
        ("timeout", f"{settings.timeout:g}", settings.timeout_origin),
    ]
    width = max(len(value) for _, value, _ in rows)
    for name, value, origin in rows:
        typer.echo(printable_row(name, value.ljust(width), origin))
    file = ConfigFile.load(options.config)
    say(f"[the configuration file is {file.path}{'' if file.text is not None else ', which does not exist'}]")


def printable_row(name: str, value: str, origin: str) -> str:
    """Return one line of the list of settings."""
    return f"{name:<9} {value}  ({printable(origin)})"


def _complete_key(incomplete: str) -> list[str]:
    return [key for key in KEYS if key.startswith(incomplete)]


@command(
    "set",
    group=group,
    options=("config", "debug"),
    examples="""
pie-sync config set port 9000
pie-sync config set private_key_path ~/.ssh/id_pie
pie-sync config set enable_auth false
""",
)
def set_command(
    options: Options,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.", autocompletion=_complete_key)
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.")],
) -> None:
    """Change a setting in the configuration file."""
    parsed = parse_value(key, value)
    path = options.config.expanduser() if options.config else default_path()
    file = ConfigFile.load(path) if path.exists() else ConfigFile(path, None)
    _write(ConfigFile(path, file.text_with(key, parsed)))
    say(f"[set {key} in {path}]")
    if key == "private_key_path":
        _check_key(value)


def _write(file: ConfigFile) -> None:
    assert file.text is not None
    file.path.parent.mkdir(parents=True, exist_ok=True)
    # Beside it first, so that there is never half a file.
    partial = file.path.with_name(f".{file.path.name}.{os.getpid()}")
    try:
        partial.write_text(file.text, encoding="utf-8")
        os.replace(partial, file.path)
    finally:
        partial.unlink(missing_ok=True)


def _check_key(path: str) -> None:
    """Warn if the key can't be used; that it's encrypted is no fault."""
    if not path:
        return
    try:
        ParsedPrivateKey.from_file(Path(path).expanduser())
    except (OSError, InvalidKeyError) as error:
        if "is encrypted" not in str(error):
            say(f"warning: {explain(error).text}")
