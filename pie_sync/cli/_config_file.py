"""The configuration file. Its place and its format are those of the official client, so that both can use it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Union

from ._failures import Failure
from ._files import expand, home, read_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "ConfigFile", "Value", "default_path", "parse_value", "path_to_write"]

Value = Union[str, int, bool]

#: The keys that the official client reads, and the types of their values.
KEYS: dict[str, type[str] | type[int] | type[bool]] = {
    "host": str,
    "port": int,
    "username": str,
    "private_key_path": str,
    "enable_auth": bool,
}

_KINDS = {str: "text", int: "a port, 1 to 65535", bool: "true or false"}


def default_path() -> Path | None:
    """Return the path of the official client's file; None if there is no home directory to look in."""
    folder = os.environ.get("PIE_CLI_HOME")
    if folder:
        return Path(folder) / "cli_config.toml"
    parent = home()
    return None if parent is None else parent / ".pie" / "cli_config.toml"


def path_to_write(typed: Path | None) -> Path:
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


def parse_value(key: str, text: str) -> Value:
    """Convert typed text to the value of a key.

    Raises:
        Failure: there is no such key, or the value is not valid.
    """
    if key not in KEYS:
        raise Failure(f"there is no setting {key!r}", f"the settings are {', '.join(KEYS)}")
    kind = KEYS[key]
    value: Value = text
    if kind is bool and text in ("true", "false"):
        value = text == "true"
    elif kind is int and text.isdecimal():
        value = int(text)
    return _checked(key, value, f"{text!r}")


def _checked(key: str, value: object, shown: str) -> Value:
    kind = KEYS[key]
    # isinstance() takes a bool for an int.
    if type(value) is not kind or (type(value) is int and not 0 < value < 65536):
        raise Failure(
            f"{key} must be {_KINDS[kind]}, not {shown}", f"set it with `pie-sync config set {key} VALUE`"
        )
    assert isinstance(value, (str, int))
    return value


class ConfigFile:
    """The content of a configuration file.

    Attributes:
        path: the path of the file; None if there is no home directory to look in.
        text: the content of the file; None if there is no such file.
        values: the values of :data:`KEYS`. An empty string counts as no value.
    """

    def __init__(self, path: Path | None, text: str | None) -> None:
        self.path = path
        self.text = text
        self.values: dict[str, Value] = {}
        for key, value in _parse(path, text or "").items():
            if key in KEYS:
                checked = _checked(key, value, f"{value!r} as in {path}")
                if checked != "":
                    self.values[key] = checked

    @classmethod
    def load(cls, path: Path | None = None) -> ConfigFile:
        """Read the file at ``path``, or the one at the default path if that exists.

        Raises:
            Failure: the file is not TOML in UTF-8, or has a value that is not valid.
            OSError: the file can't be read.
        """
        if path is not None:
            path = expand(path)
            return cls(path, read_text(path))
        path = default_path()
        try:
            return cls(path, None if path is None else read_text(path))
        except FileNotFoundError:
            return cls(path, None)

    def text_with(self, key: str, value: Value) -> str:
        """Return the text of the file with a new value for one key, and everything else unchanged."""
        line = f"{key} = {_toml(value)}"
        # Top-level keys stand before the first table. Our keys are top-level; users may have added tables.
        head, bracket, tables = _split_at_tables(self.text or "")
        replaced, count = re.subn(rf"^[ \t]*{key}[ \t]*=.*$", lambda _: line, head, count=1, flags=re.MULTILINE)
        if not count:
            replaced = f"{head.rstrip()}\n{line}\n".lstrip()
        text = replaced + bracket + tables
        # The replacement above does not know all of TOML's syntax. Parsing the result shows whether it worked.
        expected = {**_parse(self.path, self.text or ""), key: value}
        try:
            is_as_expected = tomllib.loads(text) == expected
        except tomllib.TOMLDecodeError:
            is_as_expected = False
        if not is_as_expected:
            raise Failure(f"{self.path} is written in a way that this command can't change", "change it by hand")
        return text


def _split_at_tables(text: str) -> tuple[str, str, str]:
    match = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    if match is None:
        return text, "", ""
    return text[: match.start()], match[0], text[match.end() :]


def _parse(path: Path | None, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Failure(
            f"{path} is no TOML: {error}", "correct it, or write a new one: `pie-sync config init --force`"
        ) from error


def _toml(value: Value) -> str:
    # The JSON of booleans, integers and strings is valid TOML.
    return json.dumps(value, ensure_ascii=False)
