"""The settings of a command. Order of precedence: options, environment, configuration file, defaults."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._config_file import ConfigFile
from ._failures import Failure
from ._files import expand, home

if TYPE_CHECKING:
    from ._command import Options

__all__ = ["KEY_NAMES", "Setting", "Settings"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_IDENTITY = "default/pie-sync"
DEFAULT_TIMEOUT = 30.0

#: The names of private keys in ~/.ssh, in the order in which they are tried.
KEY_NAMES = ("id_ed25519", "id_rsa", "id_ecdsa")


class Setting(NamedTuple):
    """A value and its origin. An empty value means that there is none; the origin then says why."""

    value: str
    origin: str


class Settings(NamedTuple):
    """All settings of a connection.

    ``username`` may be empty. ``key`` is None if there is no private key, or none is to be used. The origins of
    both then say why.
    """

    uri: Setting
    username: Setting
    key: Path | None
    key_origin: str
    identity: Setting
    timeout: float
    timeout_origin: str

    @classmethod
    def of(cls, options: Options, file: ConfigFile | None = None) -> Settings:
        """Collect the settings by the order of precedence.

        Args:
            options: the common options as they were typed.
            file: the configuration file; None reads the one that the options or the environment name.

        Raises:
            Failure: a value is not valid.
            OSError: the configuration file can't be read.
        """
        file = ConfigFile.load(options.config) if file is None else file
        key, key_origin = _key(options, file)
        timeout, timeout_origin = DEFAULT_TIMEOUT, "default"
        if options.timeout is not None:
            timeout, timeout_origin = options.timeout, "--timeout"
        if not timeout > 0:
            raise Failure(f"--timeout must be more than 0 seconds, not {timeout}", "--timeout 30 is the default")
        identity = Setting(DEFAULT_IDENTITY, "default")
        if options.identity:
            identity = Setting(options.identity, "--identity")
        uri, username = _uri(options, file), _username(options, file)
        return cls(uri, username, key, key_origin, identity, timeout, timeout_origin)


def _typed(value: object, option: str, variable: str) -> Setting | None:
    if value:
        return Setting(str(value), option)
    if os.environ.get(variable):
        return Setting(os.environ[variable], variable)
    return None


def _uri(options: Options, file: ConfigFile) -> Setting:
    typed = _typed(options.uri, "--uri", "PIE_URI")
    if typed is not None:
        scheme, _, rest = typed.value.rpartition("://")
        if scheme not in ("ws", "wss"):
            raise Failure(
                f"{typed.origin}: {typed.value!r} is not the URI of a Pie server", f"did you mean ws://{rest}?"
            )
        return typed
    origin = str(file.path) if "host" in file.values or "port" in file.values else "default"
    host, port = str(file.values.get("host", DEFAULT_HOST)), file.values.get("port", DEFAULT_PORT)
    return Setting(f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}", origin)


def _username(options: Options, file: ConfigFile) -> Setting:
    typed = _typed(options.username, "--username", "PIE_USERNAME")
    if typed is not None:
        return typed
    if "username" in file.values:
        return Setting(str(file.values["username"]), str(file.path))
    try:
        return Setting(getpass.getuser(), "the login name")
    except (OSError, KeyError, ImportError):
        return Setting("", "you have no login name here")


def _key(options: Options, file: ConfigFile) -> tuple[Path | None, str]:
    typed = _typed(options.key, "--key", "PIE_KEY")
    if typed is not None:
        path = expand(Path(typed.value))
        if not path.is_file():
            raise Failure(f"{typed.origin}: there is no file {path}", "`ssh-keygen -t ed25519` makes a key")
        return path, typed.origin
    if file.values.get("enable_auth") is False:
        return None, f"enable_auth is false in {file.path}"
    if "private_key_path" in file.values:
        return expand(Path(str(file.values["private_key_path"]))), str(file.path)
    folder = home()
    if folder is None:
        return None, "you have no home directory here"
    for name in KEY_NAMES:
        if (folder / ".ssh" / name).is_file():
            return folder / ".ssh" / name, "default"
    return None, "there is none in ~/.ssh"
