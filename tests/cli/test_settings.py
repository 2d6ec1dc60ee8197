"""The order of precedence of the settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync.testing import LocalServer

from .conftest import RunHere, lines, shown


def test_defaults(run_here: RunHere, home: Path) -> None:
    result = run_here("config", "show")
    assert shown(result) == {
        "uri": ("ws://127.0.0.1:8080", "default"),
        "username": ("alice", "the login name"),
        "key": ("-", "there is none in ~/.ssh"),
        "identity": ("default/pie-sync", "default"),
        "timeout": ("30", "default"),
    }
    assert result.stderr == f"[the configuration file is {home}/.pie/cli_config.toml, which does not exist]\n"


def test_the_default_key(run_here: RunHere, keys: Path) -> None:
    for name in ["id_ecdsa", "id_rsa", "id_ed25519"]:  # from the last to the first in the order of precedence
        (keys / name).touch()
        assert shown(run_here("config", "show"))["key"] == (str(keys / name), "default")


def test_another_folder_or_file(run_here: RunHere, config: Path, home: Path) -> None:
    (home / "cli_config.toml").write_text('host = "::1"')
    assert shown(run_here("config", "show", PIE_CLI_HOME=str(home)))["uri"][0] == "ws://[::1]:8080"
    assert shown(run_here("config", "show", "--config", "~/cli_config.toml"))["uri"][0] == "ws://[::1]:8080"


def test_the_environment_comes_before_the_file(run_here: RunHere, config: Path, home: Path) -> None:
    (home / "key").touch()
    settings = shown(run_here("config", "show", PIE_URI="wss://pie", PIE_USERNAME="eve", PIE_KEY="~/key"))
    assert settings["uri"] == ("wss://pie", "PIE_URI")
    assert settings["username"] == ("eve", "PIE_USERNAME")
    assert settings["key"] == (str(home / "key"), "PIE_KEY")


@pytest.mark.parametrize("before", [True, False], ids=["before the command", "behind it"])
def test_options_come_before_the_environment(run_here: RunHere, config: Path, home: Path, before: bool) -> None:
    (home / "key").touch()
    options = ["--uri", "ws://here:1", "--username", "me", "--key", "key", "--identity", "a/b", "--timeout", "2.5"]
    command = ["config", "show"]
    environment = {"PIE_URI": "ws://there:2", "PIE_USERNAME": "eve", "PIE_KEY": "nowhere"}
    settings = shown(run_here(*(options + command if before else command + options), **environment))
    assert settings == {
        "uri": ("ws://here:1", "--uri"),
        "username": ("me", "--username"),
        "key": ("key", "--key"),
        "identity": ("a/b", "--identity"),
        "timeout": ("2.5", "--timeout"),
    }


def test_the_option_behind_the_command_counts(run_here: RunHere) -> None:
    assert shown(run_here("--uri", "ws://a", "config", "show", "--uri", "ws://b"))["uri"][0] == "ws://b"


def test_an_empty_variable_says_nothing(run_here: RunHere) -> None:
    assert shown(run_here("config", "show", PIE_URI="", PIE_USERNAME="", PIE_KEY=""))["username"][0] == "alice"


def test_without_authentication_no_key_is_used(run_here: RunHere, config: Path, keys: Path) -> None:
    (keys / "id_rsa").touch()
    assert run_here("config", "set", "enable_auth", "false").code == 0
    assert shown(run_here("config", "show"))["key"] == ("-", f"enable_auth is false in {config}")
    assert shown(run_here("config", "show", "--key", keys / "id_rsa"))["key"] == (str(keys / "id_rsa"), "--key")


@pytest.mark.parametrize(
    ("options", "error", "hint"),
    [
        (["--uri", "host:80"], "--uri: 'host:80' is not the URI of a Pie server", "did you mean ws://host:80?"),
        (
            ["--uri", "http://host"],
            "--uri: 'http://host' is not the URI of a Pie server",
            "did you mean ws://host?",
        ),
        (["--uri", "ws://"], "--uri: the address must look like ws://host:port", "for example ws://"),
        (["--key", "nowhere"], "--key: there is no file nowhere", "ssh-keygen"),
        (["--config", "nowhere"], "nowhere: No such file or directory", "is the path right?"),
        (["--timeout", "0"], "--timeout must be more than 0 seconds", "30"),
        (["--timeout", "nan"], "--timeout must be more than 0 seconds", "30"),
        (["--identity", "a\nb"], "identity must be printable", "--help"),
    ],
)
def test_options_that_make_no_sense(run_here: RunHere, options: list[str], error: str, hint: str) -> None:
    result = run_here("ping", *options)
    assert result.code == 1
    assert result.stderr.startswith(f"error: {error}")
    assert hint in result.stderr.splitlines()[1]


class TestProfiles:
    """A profile that is typed comes before the environment, one of the environment behind it."""

    @pytest.fixture
    def config(self, config: Path, home: Path) -> Path:
        for name in ("key", "other"):
            (home / name).touch()
        with config.open("a") as file:
            file.write(
                '[profiles.lab]\nuri = "wss://lab"\nusername = "eve"\nprivate_key_path = "~/key"\n'
                'identity = "a/b"\n'
                "[profiles.open]\nport = 5\nenable_auth = false\n"
            )
        return config

    def test_a_typed_one(self, run_here: RunHere, config: Path, home: Path) -> None:
        origin = f"profile lab in {config}"
        expected = {
            "profile": ("lab", "--profile"),
            "uri": ("wss://lab", origin),
            "username": ("eve", origin),
            "key": (str(home / "key"), origin),
            "identity": ("a/b", origin),
            "timeout": ("30", "default"),
        }
        environment = {"PIE_URI": "ws://there:2", "PIE_USERNAME": "me", "PIE_KEY": "other", "PIE_IDENTITY": "x/y"}
        for arguments in (["--profile", "lab", "config", "show"], ["config", "show", "--profile", "lab"]):
            assert shown(run_here(*arguments, **environment, PIE_PROFILE="open")) == expected
        settings = shown(run_here("config", "show", "--profile", "lab", "--uri", "ws://here:1"))
        assert settings["uri"] == ("ws://here:1", "--uri")
        assert settings["username"] == ("eve", origin)

    def test_one_of_the_environment(self, run_here: RunHere, config: Path) -> None:
        settings = shown(run_here("config", "show", PIE_PROFILE="lab", PIE_USERNAME="me"))
        assert settings["profile"] == ("lab", "PIE_PROFILE")
        assert settings["uri"] == ("wss://lab", f"profile lab in {config}")
        assert settings["username"] == ("me", "PIE_USERNAME")

    def test_what_it_does_not_say_is_taken_from_the_top(self, run_here: RunHere, config: Path) -> None:
        settings = shown(run_here("config", "show", "--profile", "open"))
        assert settings["uri"] == ("ws://127.0.0.1:5", f"profile open in {config}")
        assert settings["username"] == ("bob", str(config))
        assert settings["key"] == ("-", f"enable_auth is false in profile open in {config}")

    def test_one_that_is_not_there(self, run_here: RunHere, config: Path, home: Path) -> None:
        assert lines(run_here("ping", "--profile", "moon")) == (
            f"there is no profile 'moon' in {config}",
            "it has lab, open",
        )
        config.unlink()
        _, hint = lines(run_here("ping", PIE_PROFILE="moon"))
        assert hint == "`pie-sync config init --profile moon --uri URI` makes one"


class TestNoHomeDirectory:
    def test_what_is_given_is_enough(
        self, homeless: RunHere, guarded: str, server: LocalServer, key_file: Path
    ) -> None:
        assert homeless("ping", "--uri", guarded, "--username", "alice", "--key", key_file).code == 0
        assert homeless("ping", PIE_URI=server.uri, PIE_USERNAME="alice").code == 0
        assert homeless("run", "talk", "--uri", server.uri, "--username", "alice").code == 0

    def test_what_is_missing_is_no_default(self, homeless: RunHere) -> None:
        result = homeless("config", "show")
        settings = shown(result)
        assert settings["username"] == ("-", "you have no login name here")
        assert settings["key"] == ("-", "you have no home directory here")
        assert result.stderr == "[there is no configuration file: you have no home directory here]\n"

    def test_what_is_missing_and_needed(self, homeless: RunHere, server: LocalServer, guarded: str) -> None:
        for arguments, error, hint in [
            (["ping", "--uri", server.uri], "you have no login name here", "--username NAME says who you are"),
            (
                ["ping", "--uri", guarded, "--username", "alice"],
                "the server asks 'alice' for a signature, but there is no private key:"
                " you have no home directory here",
                "`ssh-keygen -t ed25519` makes one",
            ),
            (["ping", "--key", "~/key"], "~/key: there is no such home directory", "give the whole path"),
        ]:
            found = lines(homeless(*arguments))
            assert found[0] == error
            assert found[1].startswith(hint)
