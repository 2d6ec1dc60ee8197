"""The sub-commands ``config init``, ``config show`` and ``config set``."""

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
from ._config_file import KEYS, ConfigFile, Value, parse_value, path_to_write
from ._failures import Failure, explain, printable
from ._interruption import NAP
from ._output import echo, say, writing
from ._settings import KEY_NAMES, Settings

group = typer.Typer(
    help="Show and change the settings.\n\nThe configuration file is the one of the official command.",
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
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Write a configuration file.

    Each value is taken from the options, then from the environment, then from the defaults.
    """
    path = path_to_write(options.config)
    if path.exists() and not force:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise Failure(f"there is {path} already", "--force overwrites it")
        if not _confirms(f"There is {path} already. Overwrite it?"):
            say("[unchanged]")
            return
    values = _initial(options, with_key=not no_auth)
    file = ConfigFile(path, None)
    for key, value in values.items():
        file = ConfigFile(path, file.text_with(key, value))
    assert file.text is not None
    _write(path, file.text)
    say(f"[wrote {path}]")
    if not no_auth:
        _check_key(str(values["private_key_path"]))


def _confirms(question: str) -> bool:
    """Ask the user at the terminal a question. An empty answer is a no.

    typer.confirm() would ignore a Ctrl-C that arrives just as it begins to wait.
    """
    while True:
        sys.stderr.write(f"{question} [y/N]: ")
        sys.stderr.flush()
        # On Windows, select() does not take a terminal.
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
    # The file that is being written does not count.
    settings = Settings.of(options, ConfigFile(None, None))
    parts = urlsplit(settings.uri.value)
    if parts.scheme != "ws" or not parts.hostname or parts.path.strip("/"):
        raise Failure(
            f"the file has keys for a host and a port only, not for {settings.uri.value}",
            "set the environment variable PIE_URI to that, and leave out --uri here",
        )
    key = f"~/.ssh/{KEY_NAMES[0]}" if settings.key is None else str(settings.key)
    return {
        "host": parts.hostname,
        "port": parts.port or 80,
        "username": settings.username.value,  # if it is empty, the login name counts when the file is used
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
    """Show the settings, and where each of them comes from."""
    file = ConfigFile.load(options.config)
    settings = Settings.of(options, file)
    key = "-" if settings.key is None else str(settings.key)
    rows = [
        ("uri", *settings.uri),
        ("username", settings.username.value or "-", settings.username.origin),
        ("key", key, settings.key_origin),
        ("identity", *settings.identity),
        ("timeout", f"{settings.timeout:g}", settings.timeout_origin),
    ]
    width = max(len(value) for _, value, _ in rows)
    for name, value, origin in rows:
        echo(f"{name:<9} {value:<{width}}  ({printable(origin)})")
    if file.path is None:
        say("[there is no configuration file: you have no home directory here]")
    else:
        say(f"[the configuration file is {file.path}{'' if file.text is not None else ', which does not exist'}]")


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
    path = path_to_write(options.config)
    file = ConfigFile.load(path) if path.exists() else ConfigFile(path, None)
    _write(path, file.text_with(key, parsed))
    say(f"[set {key} in {path}]")
    if key == "private_key_path":
        _check_key(value)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the file and then renamed, so that a failure never leaves half a file.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(str(path)):
            partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_key(path: str) -> None:
    """Warn if the private key can't be used. An encrypted key is fine."""
    if not path:
        return
    try:
        ParsedPrivateKey.from_file(Path(path))
    except (OSError, InvalidKeyError) as error:
        if "is encrypted" not in str(error):
            say(f"warning: {explain(error).text}")
