"""Reading the configuration file, and changing it without touching what else is in it.

``tests/cli/test_config_file.py`` has the errors, as the command tells them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pie_sync import PieValueError
from pie_sync._connection.config_file import KEYS, ConfigFile, parse_value

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PATH = Path("config.toml")

FILE = """\
# mine
host = "gpu-box"  # in the cellar
colour = "green"

[other]
port = 1

[profiles.lab]  # the old one
uri = "ws://lab"

# behind
[[more]]
x = 1
"""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
VALUES = {str: TEXTS, int: st.integers(1, 65535), bool: st.booleans()}
CHANGES = st.lists(
    st.sampled_from(sorted(KEYS)).flatmap(
        lambda key: st.tuples(
            st.just(key), st.none() | VALUES[KEYS[key]], st.sampled_from([None, "lab", "cloud-2"])
        )
    ),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # which measures the machine
@given(st.sampled_from(["", FILE, FILE.rstrip(), "[profiles.cloud-2]\n"]), CHANGES)
def test_any_changes(text, changes):
    """Whatever is changed, in any order: the result is TOML, with these values and all others as they were."""
    expected = tomllib.loads(text)
    for key, value, profile in changes:
        text = ConfigFile(PATH, text).text_with({key: value}, profile)
        section = expected if profile is None else expected.setdefault("profiles", {}).setdefault(profile, {})
        section.pop(key, None)
        if value is not None:
            section[key] = value
        assert tomllib.loads(text) == expected
    for comment in ("# mine", "# the old one", "# behind") if text.startswith("#") else ():
        assert comment in text


def test_a_new_profile_looks_like_one():
    text = ConfigFile(PATH, 'host = "a"\n').text_with({"uri": "ws://lab"}, "lab")
    assert text == 'host = "a"\n\n[profiles.lab]\nuri = "ws://lab"\n'


def test_profiles_are_read():
    file = ConfigFile(PATH, FILE)
    assert file.values == {"host": "gpu-box"}
    assert file.profile("lab") == {"uri": "ws://lab"}
    with pytest.raises(PieValueError, match="no profile 'moon' in config.toml") as caught:
        file.profile("moon")
    assert caught.value.hint == "it has lab"


@pytest.mark.parametrize("text", ["profiles.lab = { uri = 'ws://lab' }", "'port' = 1"])
def test_what_cannot_be_changed_is_left_alone(text):
    with pytest.raises(PieValueError, match="can't change") as caught:
        ConfigFile(PATH, text).text_with({"port": 5}, None if "port" in text else "lab")
    assert caught.value.hint == "change it by hand"


def test_what_is_not_valid_can_be_changed():
    file = ConfigFile(PATH, "port = 0\n\n[profiles.lab]\nport = true\nhost = 'a'\n", to_change=True)
    assert (file.values, file.has_settings, file.profiles) == ({}, True, {"lab": {"host": "a"}})
    assert ConfigFile(PATH, file.text_with({"port": 5}), to_change=True).values == {"port": 5}
    assert not ConfigFile(PATH, "colour = 1\n[profiles.lab]\nport = 1").has_settings


def test_a_mistake_in_a_profile_names_the_file():
    with pytest.raises(PieValueError, match="port must be a port, 1 to 65535, not 0 as in config.toml"):
        ConfigFile(PATH, "[profiles.lab]\nport = 0")


def test_values_as_they_are_typed():
    assert [parse_value("port", "1"), parse_value("enable_auth", "true"), parse_value("uri", "1")] == [
        1,
        True,
        "1",
    ]
