"""The configuration file, which is that of the official client: both commands may use it."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Union

from ._failures import Failure

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["KEYS", "ConfigFile", "Value", "default_path", "parse_value"]

Value = Union[str, int, bool]

#: What the official client reads, and what it must be.
KEYS: dict[str, type[str] | type[int] | type[bool]] = {
    "host": str,
    "port": int,
    "username": str,
    "private_key_path": str,
    "enable_auth": bool,
}

_KINDS = {str: "text", int: "a port, 1 to 65535", bool: "true or false"}


def default_path() -> Path:
    """Return where the official client has its file."""
    home = os.environ.get("PIE_CLI_HOME")
    return (Path(home) if home else Path.home() / ".pie") / "cli_config.toml"


def parse_value(key: str, text: str) -> Value:
    """Return what was typed as the value of a key.

    Raises:
        Failure: there is no such key, or it can't have that value.
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
    # A bool is an int to isinstance().
    if type(value) is not kind or (type(value) is int and not 0 < value < 65536):
        raise Failure(
            f"{key} must be {_KINDS[kind]}, not {shown}", f"set it with `pie-sync config set {key} VALUE`"
        )
    assert isinstance(value, (str, int))
    return value


class ConfigFile:
    """The file, read.

    Attributes:
        path: where it is.
        text: what is in it; None if there is no such file.
        values: what it says about :data:`KEYS`. An empty text counts as nothing.
    """

    def __init__(self, path: Path, text: str | None) -> None:
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
        """Read the file at ``path``, which must be there, or the one at its usual place, if there is one.

        Raises:
            Failure: it can't be understood.
            OSError: it can't be read.
        """
        if path is not None:
            return cls(path.expanduser(), path.expanduser().read_text(encoding="utf-8"))
        try:
            return cls(default_path(), default_path().read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(default_path(), None)

    def text_with(self, key: str, value: Value) -> str:
        """Return the file's text with another value for one key, and everything else as it is."""
        line = f"{key} = {_toml(value)}"
        # Keys of the whole file stand before the first table; there is nobody who makes one, but somebody may.
        head, bracket, tables = _split_at_tables(self.text or "")
        replaced, count = re.subn(rf"^[ \t]*{key}[ \t]*=.*$", lambda _: line, head, count=1, flags=re.MULTILINE)
        if not count:
            replaced = f"{head.rstrip()}\n{line}\n".lstrip()
        text = replaced + bracket + tables
        # TOML has more ways to write things than this understands: whether it did shows here.
        expected = {**_parse(self.path, self.text or ""), key: value}
        try:
            is_as_expected = tomllib.loads(text) == expected
        except tomllib.TOMLDecodeError:
            is_as_expected = False
        if not is_as_expected:
            raise Failure(f"{self.path} is written in a way that can't be changed from here", "change it by hand")
        return text


def _split_at_tables(text: str) -> tuple[str, str, str]:
    match = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    if match is None:
        return text, "", ""
    return text[: match.start()], match[0], text[match.end() :]


def _parse(path: Path, text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Failure(
            f"{path} is no TOML: {error}", "correct it, or make a new one: `pie-sync config init --force`"
        ) from error


def _toml(value: Value) -> str:
    # JSON's true, numbers and strings are TOML's as well.
    return json.dumps(value, ensure_ascii=False)
