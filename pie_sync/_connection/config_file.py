"""The configuration file. Its place and its format are those of the official client, so that both can use it.

What only pie-sync understands stands where the official client does not look: the keys ``uri`` and ``identity``,
and a table ``[profiles.NAME]`` for each further server.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Union

from .._support.text_files import read_text
from .._support.toml import parse_toml
from .._support.user_paths import expand, home
from ..errors import PieValueError

__all__ = ["KEYS", "ConfigFile", "Value", "check_profile_name", "default_path", "parse_value"]

Value = Union[str, int, bool]

#: The keys that the official client reads, then our own; and the types of their values.
KEYS: dict[str, type[str] | type[int] | type[bool]] = {
    "host": str,
    "port": int,
    "username": str,
    "private_key_path": str,
    "enable_auth": bool,
    "uri": str,
    "identity": str,
}

_KINDS = {str: "text", int: "a port, 1 to 65535", bool: "true or false"}
_EXAMPLES = {
    "host": "127.0.0.1",
    "port": "8080",
    "username": "alice",
    "private_key_path": "~/.ssh/id_ed25519",
    "enable_auth": "true",
    "uri": "ws://127.0.0.1:8080",
    "identity": "default/alice",
}

_PROFILES = "profiles"

#: What TOML takes as a key without quotes.
_PROFILE_NAME = re.compile("[A-Za-z0-9_-]+")


def default_path() -> Path | None:
    """Return the path of the official client's file; None if there is no home directory to look in."""
    folder = os.environ.get("PIE_CLI_HOME")
    if folder:
        return Path(folder) / "cli_config.toml"
    parent = home()
    return None if parent is None else parent / ".pie" / "cli_config.toml"


def parse_value(key: str, text: str) -> Value:
    """Convert typed text to the value of a key.

    Raises:
        PieValueError: there is no such key, or the value is not valid.
    """
    if key not in KEYS:
        raise PieValueError(f"there is no setting {key!r}", f"the settings are {', '.join(KEYS)}")
    kind = KEYS[key]
    value: Value = text
    if kind is bool and text in ("true", "false"):
        value = text == "true"
    elif kind is int and text.isdecimal():
        value = int(text)
    return _checked(key, value, f"{text!r}", f"for example `pie-sync config set {key} {_EXAMPLES[key]}`")


def check_profile_name(name: str) -> str:
    """Return the name of a profile, if it can be one."""
    if not _PROFILE_NAME.fullmatch(name):
        raise PieValueError(f"{name!r} can't be the name of a profile", "it takes letters, digits, - and _")
    return name


def _checked(key: str, value: object, shown: str, hint: str) -> Value:
    kind = KEYS[key]
    # isinstance() takes a bool for an int.
    if type(value) is not kind or (type(value) is int and not 0 < value < 65536):
        raise PieValueError(f"{key} must be {_KINDS[kind]}, not {shown}", hint)
    assert isinstance(value, (str, int))
    return value


class ConfigFile:
    """The content of a configuration file.

    Attributes:
        path: the path of the file; None if there is no home directory to look in.
        text: the content of the file; None if there is no such file.
        values: the values of :data:`KEYS`. An empty string counts as no value.
        profiles: the same for each profile, by its name.
        has_settings: whether the top of the file has any of :data:`KEYS`, valid or not.
    """

    def __init__(self, path: Path | None, text: str | None, *, to_change: bool = False) -> None:
        self.path = path
        self.text = text
        self._to_change = to_change
        content = _parse(path, text or "")
        self.values = self._values(content)
        self.has_settings = any(key in content for key in KEYS)
        profiles = self._table(content.get(_PROFILES, {}), _PROFILES)
        self.profiles = {
            name: self._values(self._table(table, f"{_PROFILES}.{name}"), name) for name, table in profiles.items()
        }

    @classmethod
    def load(cls, path: Path | None = None, *, to_change: bool = False) -> ConfigFile:
        """Read the file at ``path``, or the one at the default path if that exists.

        Args:
            path: the file.
            to_change: values that are not valid count as none, so that they can be set to others.

        Raises:
            PieValueError: the file is not TOML in UTF-8, or has a value that is not valid.
            OSError: the file can't be read.
        """
        if path is not None:
            return cls(path, _read(expand(path)), to_change=to_change)
        path = default_path()
        try:
            return cls(path, None if path is None else _read(path))
        except FileNotFoundError:
            return cls(path, None)

    def profile(self, name: str) -> dict[str, Value]:
        """Return the values of a profile.

        Raises:
            PieValueError: there is no such profile.
        """
        if name not in self.profiles:
            known = ", ".join(sorted(self.profiles))
            raise PieValueError(
                f"there is no profile {name!r} in {self.path}",
                f"it has {known}" if known else f"`pie-sync config init --profile {name} --uri URI` makes one",
            )
        return self.profiles[name]

    def text_with(self, changes: dict[str, Value | None], profile: str | None = None) -> str:
        """Return the text of the file with new values for some keys, and everything else unchanged.

        Args:
            changes: the new values; None takes the key out.
            profile: whose; None stands for the top of the file, which the official client reads.

        Raises:
            PieValueError: the file is written in a way that can't be changed here.
        """
        text = self.text or ""
        expected = _parse(self.path, text)
        section = expected
        if profile is not None:
            profiles = expected.setdefault(_PROFILES, {})
            section = profiles.setdefault(check_profile_name(profile), {})
        for key, value in changes.items():
            text = _changed(text, key, value, profile)
            section.pop(key, None)
            if value is not None:
                section[key] = value
        # The replacements do not know all of TOML's syntax. Parsing the result shows whether they worked.
        try:
            is_as_expected = parse_toml(text) == expected
        except ValueError:
            is_as_expected = False
        if not is_as_expected:
            raise PieValueError(
                f"{self.path} is written in a way that this command can't change", "change it by hand"
            )
        return text

    def _values(self, table: dict[str, Any], profile: str | None = None) -> dict[str, Value]:
        values = {}
        for key in (key for key in KEYS if key in table):
            of_profile = f" --profile {profile}" if profile else ""
            hint = f"`pie-sync config set {key} VALUE{of_profile}` sets another one"
            try:
                checked = _checked(key, table[key], f"{table[key]!r} as in {self.path}", hint)
                if checked != "":
                    values[key] = checked
            except PieValueError:
                if not self._to_change:
                    raise
        return values

    def _table(self, value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise PieValueError(
                f"{name} must be a table, not {value!r} as in {self.path}",
                "correct it by hand, or write a new file: `pie-sync config init --force`",
            )
        return value


def _read(path: Path) -> str:
    try:
        return read_text(path)
    except PieValueError as error:
        error.hint = "save it as UTF-8"
        raise


def _changed(text: str, key: str, value: Value | None, profile: str | None) -> str:
    """Return the text with one key changed, added or taken out."""
    before, section, after = _split(text, profile)
    # The JSON of booleans, integers and strings is valid TOML, but for one control character.
    text_of_value = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    line = "" if value is None else f"{key} = {text_of_value}"
    pattern = rf"^[ \t]*{key}[ \t]*=.*$" if line else rf"^[ \t]*{key}[ \t]*=.*\n?"
    section, count = re.subn(pattern, lambda _: line, section, count=1, flags=re.MULTILINE)
    if line and not count:
        section = f"{section.rstrip()}\n{line}\n"
        section = section.lstrip() if before[-1:] in ("", "\n") else section
        section += "\n" if after else ""
    return before + section + after


def _split(text: str, profile: str | None) -> tuple[str, str, str]:
    """Return what is before a section, the section without its head, and what is behind.

    Top-level keys stand before the first table.
    """
    begin = 0
    if profile is not None:
        head = re.search(rf"^[ \t]*\[[ \t]*{_PROFILES}\.{profile}[ \t]*\].*$", text, re.MULTILINE)
        if head is None:
            text = f"{text.rstrip()}\n\n[{_PROFILES}.{profile}]\n".lstrip()
            return text, "", ""
        begin = head.end()
    following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, begin)
    end = len(text) if following is None else following.start()
    return text[:begin], text[begin:end], text[end:]


def _parse(path: Path | None, text: str) -> dict[str, Any]:
    try:
        return parse_toml(text)
    except ValueError as error:
        raise PieValueError(
            f"{path} is no TOML: {error}", "correct it, or write a new one: `pie-sync config init --force`"
        ) from error
