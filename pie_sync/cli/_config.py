"""The sub-commands ``config init``, ``config show`` and ``config set``."""

# No "from __future__ import annotations": typer reads the annotations of the commands.

import dataclasses
import os
import select
import shutil
import sys
from pathlib import Path
from typing import Annotated, Optional
from urllib.parse import urlsplit

import typer

from .._connection.config_file import KEYS, ConfigFile, Value, default_path, parse_value
from .._connection.settings import DEFAULT_HOST, DEFAULT_PORT
from ..errors import InvalidKeyError, PieValueError
from ..keys import ParsedPrivateKey
from ._command import Options, app, command
from ._connection import check_address
from ._failures import Failure, explain, printable
from ._files import expand
from ._interruption import NAP
from ._output import echo, say, writing
from ._settings import Settings

group = typer.Typer(
    help="Show and change the settings.\n\nThe configuration file is the one of the official command.",
    no_args_is_help=True,
)
app.add_typer(group, name="config")


@command(
    "init",
    group=group,
    options=("uri", "username", "key", "profile", "config", "debug"),
    shown=("uri", "username", "key", "profile", "config"),
    examples="""
pie-sync config init
pie-sync config init --uri ws://gpu-box:8080 --username alice --key ~/.ssh/id_pie
pie-sync config init --profile cloud --uri wss://pie.example.org
pie-sync config init --no-auth
""",
)
def init(
    options: Options,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Never use a private key.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite the settings that are there, or those of the profile.")
    ] = False,
) -> None:
    """Write a configuration file, or with --profile a further server into it.

    Each value is taken from the options, then from the environment, then from the defaults.
    """
    path = path_to_write(options.config)
    profile = options.profile
    file = _file_to_change(path, may_be_broken=profile is None)
    is_there = profile in file.profiles if profile else file.has_settings or (file.text is None and path.exists())
    if is_there and not force and not _may_overwrite(profile, path):
        say("[unchanged]")
        return
    values = _initial(options, with_key=not no_auth, is_profile=profile is not None)
    if is_there:
        values = {**dict.fromkeys(KEYS), **values}
    _write(path, file.text_with(values, profile))
    say(f"[wrote {f'the profile {profile} into ' if profile else ''}{path}]")
    if profile:
        say(f"[--profile {profile}, or the variable PIE_PROFILE, takes it]")
    if "private_key_path" in values:
        _check_key(str(values["private_key_path"] or ""))
    elif not no_auth:
        say("[without a private key, since there is none in ~/.ssh: `ssh-keygen -t ed25519` makes one]")


def _file_to_change(path: Path, *, may_be_broken: bool = False) -> ConfigFile:
    """Return the file at ``path``; one without any text if there is none.

    Args:
        path: the file.
        may_be_broken: a file that is no configuration counts as one without any text, since it is replaced.
    """
    try:
        return ConfigFile.load(path, to_change=True)
    except FileNotFoundError:
        return ConfigFile(path, None)
    except PieValueError:
        if not may_be_broken:
            raise
        return ConfigFile(path, None)


def _may_overwrite(profile: Optional[str], path: Path) -> bool:
    there = f"the profile {profile} in {path}" if profile else str(path)
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        what = "it" if profile else "its settings, but no profile"
        raise Failure(f"there is {there} already", f"--force overwrites {what}")
    return _confirms(f"There is {there} already. Overwrite {'it' if profile else 'its settings'}?")


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


def _initial(options: Options, *, with_key: bool, is_profile: bool) -> dict[str, Optional[Value]]:
    # The file that is being written does not count.
    typed = dataclasses.replace(options, profile=None)
    settings = Settings.of(typed, ConfigFile(None, None)).client
    check_address(*settings.uri)
    values = _address(settings.uri.value, is_profile=is_profile)
    # If the name is empty, the login name counts when the file is used.
    values["username"] = settings.username.value
    if with_key and settings.key is not None:
        values["private_key_path"] = str(settings.key)
    values["enable_auth"] = with_key
    return values


def _address(uri: str, *, is_profile: bool) -> dict[str, Optional[Value]]:
    """Return what to write for an address. The official client reads a host and a port at the top of the file."""
    if is_profile:
        return {"uri": uri, "host": None, "port": None}
    parts = urlsplit(uri)
    assert parts.hostname is not None
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    is_simple = parts.scheme == "ws" and not parts.path.strip("/") and not parts.query
    return {"host": parts.hostname, "port": port, "uri": None if is_simple else uri}


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
    ours = settings.client
    rows = [
        ("profile", ours.profile.value or "-", ours.profile.origin),
        ("uri", *ours.uri),
        ("username", ours.username.value or "-", ours.username.origin),
        ("key", "-" if ours.key is None else str(ours.key), ours.key_origin),
        ("identity", *ours.identity),
        ("timeout", f"{settings.timeout:g}", settings.timeout_origin),
    ]
    if not file.profiles:
        del rows[0]
    width = max(len(value) for _, value, _ in rows)
    for name, value, origin in rows:
        echo(f"{name:<9} {value:<{width}}  ({printable(origin)})")
    if file.profiles:
        say(f"[profiles: {printable(', '.join(sorted(file.profiles)))}; --profile NAME takes one]")
    if file.path is None:
        say("[there is no configuration file: you have no home directory here]")
    else:
        say(f"[the configuration file is {file.path}{'' if file.text is not None else ', which does not exist'}]")


def _complete_key(incomplete: str) -> list[str]:
    return [key for key in KEYS if key.startswith(incomplete)]


def _complete_value(ctx: typer.Context, incomplete: str) -> list[str]:
    kind = KEYS.get(ctx.params.get("key") or "")
    return [value for value in ("true", "false") if kind is bool and value.startswith(incomplete)]


@command(
    "set",
    group=group,
    options=("profile", "config", "debug"),
    shown=("profile", "config"),
    examples="""
pie-sync config set port 9000
pie-sync config set uri wss://pie.example.org
pie-sync config set private_key_path ~/.ssh/id_pie
pie-sync config set username bob --profile cloud
""",
)
def set_command(
    options: Options,
    key: Annotated[
        str, typer.Argument(metavar="KEY", help=f"One of {', '.join(KEYS)}.", autocompletion=_complete_key)
    ],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value.", autocompletion=_complete_value)],
) -> None:
    """Change a setting in the configuration file."""
    parsed = parse_value(key, value)
    if value == "" and key != "private_key_path":  # an empty path is the way to have no key
        raise Failure(f"{key} must not be empty", "take the line out by hand to go back to the default")
    if key == "private_key_path" and value:
        _check_is_file(value)
    profile = options.profile
    path = path_to_write(options.config)
    file = _file_to_change(path)
    values = file.profiles.get(profile, {}) if profile else file.values
    changes: dict[str, Optional[Value]] = {key: parsed}
    if key == "uri":
        check_address(value, key)
        changes = _address(value, is_profile=profile is not None)
    elif key in ("host", "port"):
        uri = _address_with({**values, key: parsed}, key)
        if "uri" in values:
            changes = _address(uri, is_profile=profile is not None)
            say(f"[the address is now {uri}]")
    _write(path, file.text_with(changes, profile))
    say(f"[set {key} in {f'the profile {profile} of ' if profile else ''}{path}]")
    if key == "private_key_path":
        _check_key(value)


def _address_with(values: dict[str, Value], key: str) -> str:
    """Return the address with another host or port. Everything else stays, above all whether it has TLS.

    Args:
        values: the values of the file, among them the new one.
        key: which one is new, ``host`` or ``port``.

    Raises:
        Failure: nobody can connect to that.
    """
    parts = urlsplit(str(values.get("uri", "")))
    host, port = parts.hostname, parts.port
    if host is None:
        host, port = str(values.get("host", DEFAULT_HOST)), int(values.get("port", DEFAULT_PORT))
    if key == "host":
        host = str(values["host"])
    else:
        port = int(values["port"])
    netloc = f"[{host}]" if ":" in host else host
    uri = parts._replace(scheme=parts.scheme or "ws", netloc=netloc if port is None else f"{netloc}:{port}")
    check_address(uri.geturl(), key)
    return uri.geturl()


def _check_is_file(key: str) -> None:
    if not expand(Path(key)).is_file():
        raise Failure(f"there is no file {expand(Path(key))}", "`ssh-keygen -t ed25519` makes a key")


def _write(path: Path, text: str) -> None:
    # The file that a symbolic link leads to is written, not the link.
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside the file and then renamed, so that a failure never leaves half a file.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with writing(str(path)):
            partial.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def path_to_write(typed: Optional[Path]) -> Path:
    """Return the path of the file to write: the typed one, or else the default.

    Raises:
        Failure: there is neither.
    """
    path = default_path() if typed is None else expand(typed)
    if path is None:
        raise Failure(
            "there is no home directory for the configuration file",
            "--config FILE names the file, or the environment variable PIE_CLI_HOME its folder",
        )
    return path


def _check_key(path: str) -> None:
    """Warn if the private key can't be used. An encrypted key is fine."""
    if not path:
        return
    try:
        ParsedPrivateKey.from_file(Path(path))
    except (OSError, InvalidKeyError) as error:
        if "is encrypted" not in str(error):
            say(f"warning: {explain(error).text}")
