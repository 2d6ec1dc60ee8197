"""Which server, and who the user is: for ``PieClient.from_env`` and the command.

Order of precedence: options that were typed (among them a profile), environment variables (among them one for a
profile), the configuration file, defaults.
"""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .._support.user_paths import expand, home
from ..errors import AuthenticationError, PieValueError
from ..keys import ParsedPrivateKey
from .config_file import ConfigFile

if TYPE_CHECKING:
    from .config_file import Value

__all__ = ["DEFAULT_HOST", "DEFAULT_PORT", "ClientSettings", "Given", "Setting", "UserKey"]

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_IDENTITY = "default/pie-sync"

#: The names of private keys in ~/.ssh, in the order in which they are tried.
_KEY_NAMES = ("id_ed25519", "id_rsa", "id_ecdsa")


class Given(NamedTuple):
    """What was given for this one run, rather than set for all; None for each that was not."""

    uri: str | None = None
    username: str | None = None
    key: Path | None = None
    identity: str | None = None
    profile: str | None = None
    config: Path | None = None


class Setting(NamedTuple):
    """A value and its origin. An empty value means that there is none; the origin then says why."""

    value: str
    origin: str


class ClientSettings(NamedTuple):
    """The settings of a connection.

    ``username`` may be empty. ``key`` is None if there is no private key, or none is to be used. The origins of
    both then say why. ``profile`` is empty where none is used.
    """

    uri: Setting
    username: Setting
    key: Path | None
    key_origin: str
    identity: Setting
    profile: Setting

    @classmethod
    def find(cls, given: Given, file: ConfigFile | None = None) -> ClientSettings:
        """Collect the settings by the order of precedence.

        Args:
            given: what was given for this run.
            file: the configuration file; None reads the one that ``given`` or the environment names.

        Raises:
            PieValueError: a value is not valid, or there is no such profile.
            OSError: the configuration file can't be read.
        """
        return _Search(given, ConfigFile.load(given.config) if file is None else file).settings()


class _Search:
    """Looks in all places where a setting may be."""

    def __init__(self, given: Given, file: ConfigFile) -> None:
        self._given = given
        #: The sections of the file that come before the environment, and those that come behind it.
        self._before: list[tuple[dict[str, Value], str]] = []
        self._behind: list[tuple[dict[str, Value], str]] = [(file.values, str(file.path))]
        self._profile = Setting("", "none is used")
        variable = os.environ.get("PIE_PROFILE")
        name = given.profile or variable
        if name:
            self._profile = Setting(name, "--profile" if given.profile else "PIE_PROFILE")
            section = file.profile(name), f"profile {name} in {file.path}"
            if given.profile:
                self._before.append(section)
            else:
                self._behind.insert(0, section)

    def settings(self) -> ClientSettings:
        key, key_origin = self._key()
        identity = self._value("identity", "--identity", "PIE_IDENTITY")
        return ClientSettings(
            self._uri(),
            self._username(),
            key,
            key_origin,
            Setting(DEFAULT_IDENTITY, "default") if identity is None else identity,
            self._profile,
        )

    def _value(self, name: str, option: str, variable: str, *, key: str | None = None) -> Setting | None:
        """Return the first value that there is; None if it is set nowhere."""
        typed = getattr(self._given, name)
        if typed:
            return Setting(str(typed), option)
        for values, origin in self._before:
            if (key or name) in values:
                return Setting(str(values[key or name]), origin)
        if os.environ.get(variable):
            return Setting(os.environ[variable], variable)
        for values, origin in self._behind:
            if (key or name) in values:
                return Setting(str(values[key or name]), origin)
        return None

    def _uri(self) -> Setting:
        uri = self._address()
        scheme, _, rest = uri.value.rpartition("://")
        if scheme not in ("ws", "wss"):
            raise PieValueError(
                f"{uri.origin}: {uri.value!r} is not the URI of a Pie server", f"did you mean ws://{rest}?"
            )
        return uri

    def _address(self) -> Setting:
        if self._given.uri:
            return Setting(self._given.uri, "--uri")
        found = _address_in(self._before)
        if found is None and os.environ.get("PIE_URI"):
            found = Setting(os.environ["PIE_URI"], "PIE_URI")
        found = found or _address_in(self._behind)
        return found or Setting(f"ws://{DEFAULT_HOST}:{DEFAULT_PORT}", "default")

    def _username(self) -> Setting:
        found = self._value("username", "--username", "PIE_USERNAME")
        if found is not None:
            return found
        try:
            return Setting(getpass.getuser(), "the login name")
        except (OSError, KeyError, ImportError):
            return Setting("", "you have no login name here")

    def _key(self) -> tuple[Path | None, str]:
        if self._given.key:
            return _existing(self._given.key, "--key")
        found = _key_in(self._before)
        if found is None and os.environ.get("PIE_KEY"):
            found = _existing(Path(os.environ["PIE_KEY"]), "PIE_KEY")
        wanted = any(values.get("enable_auth") for values, _ in self._before)
        return found or (None if wanted else _key_in(self._behind)) or _default_key()


def _address_in(sections: list[tuple[dict[str, Value], str]]) -> Setting | None:
    for values, origin in sections:
        if "uri" in values:
            return Setting(str(values["uri"]), origin)
        if "host" in values or "port" in values:
            host, port = str(values.get("host", DEFAULT_HOST)), values.get("port", DEFAULT_PORT)
            return Setting(f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}", origin)
    return None


def _existing(key: Path, origin: str) -> tuple[Path, str]:
    path = expand(key)
    if not path.is_file():
        raise PieValueError(f"{origin}: there is no file {path}", "`ssh-keygen -t ed25519` makes a key")
    return path, origin


def _key_in(sections: list[tuple[dict[str, Value], str]]) -> tuple[Path | None, str] | None:
    for values, origin in sections:
        if values.get("enable_auth") is False:
            return None, f"enable_auth is false in {origin}"
        if "private_key_path" in values:
            return expand(Path(str(values["private_key_path"]))), origin
        if values.get("enable_auth"):
            return None  # a profile that is for a server with users, whatever the top of the file says
    return None


def _default_key() -> tuple[Path | None, str]:
    folder = home()
    if folder is None:
        return None, "you have no home directory here"
    for name in _KEY_NAMES:
        if (folder / ".ssh" / name).is_file():
            return folder / ".ssh" / name, "default"
    return None, "there is none in ~/.ssh"


class UserKey:
    """The user's private key, which is read when a server asks for a signature: many servers don't."""

    def __init__(self, settings: ClientSettings, password: str | bytes | None = None) -> None:
        self._path = settings.key
        self._origin = settings.key_origin
        self._username = settings.username.value
        self._password = password
        self._loaded: ParsedPrivateKey | None = None

    def sign(self, data: bytes | bytearray | memoryview) -> bytes:
        """Sign a challenge. This is the only method of :class:`ParsedPrivateKey` that a client calls.

        Raises:
            AuthenticationError: there is no key.
            InvalidKeyError: the key can't be read.
            OSError: the file can't be read.
        """
        if self._loaded is None:
            self._loaded = self.load()
        return self._loaded.sign(data)

    def load(self) -> ParsedPrivateKey:
        """Read the key; see :meth:`sign`."""
        if self._path is None:
            error = AuthenticationError(
                f"the server asks {self._username!r} for a signature, but there is no private key: {self._origin}"
            )
            error.hint = (
                "`ssh-keygen -t ed25519` makes one, --key FILE or the variable PIE_KEY takes it;"
                " the server must know its .pub file"
            )
            raise error
        return ParsedPrivateKey.from_file(self._path, self._password)
