"""Where settings come from, and the commands that show and change them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomli

from .conftest import Result, RunHere

FILE = """\
# mine
host = "gpu-box"
port = 9000
username = "bob"
private_key_path = "~/keys/mine"  # the good one
enable_auth = true
colour = "green"

[other]
port = 1
"""


@pytest.fixture
def config(home: Path) -> Path:
    path = home / ".pie" / "cli_config.toml"
    path.parent.mkdir()
    path.write_text(FILE)
    return path


@pytest.fixture
def keys(home: Path) -> Path:
    folder = home / ".ssh"
    folder.mkdir()
    return folder


def shown(result: Result) -> dict[str, tuple[str, str]]:
    """Read what `config show` prints: setting -> (value, origin)."""
    assert result.code == 0, result.stderr
    rows = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    return {name: (value, origin.strip("()")) for name, value, origin in rows}


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


def test_the_file_of_the_official_client(run_here: RunHere, config: Path, home: Path) -> None:
    settings = shown(run_here("config", "show"))
    assert settings["uri"] == ("ws://gpu-box:9000", str(config))
    assert settings["username"] == ("bob", str(config))
    assert settings["key"] == (str(home / "keys/mine"), str(config))


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
    ("content", "reason"),
    [
        ("port = ", "is no TOML: "),
        ("port = 0", "port must be a port, 1 to 65535, not 0 as in "),
        ("port = true", "port must be a port, 1 to 65535, not True as in "),
        ('enable_auth = "no"', "enable_auth must be true or false, not 'no' as in "),
        ("host = 5", "host must be text, not 5 as in "),
    ],
)
def test_files_that_make_no_sense(run_here: RunHere, config: Path, content: str, reason: str) -> None:
    config.write_text(content)
    result = run_here("ping")
    error, cure = result.stderr.splitlines()
    assert result.code == 1
    assert error.startswith("error: ")
    assert reason in error
    assert str(config) in error
    assert cure.startswith("cure: ")


@pytest.mark.parametrize(
    ("options", "error", "cure"),
    [
        (["--uri", "host:80"], "--uri: 'host:80' is not the URI of a Pie server", "did you mean ws://host:80?"),
        (
            ["--uri", "http://host"],
            "--uri: 'http://host' is not the URI of a Pie server",
            "did you mean ws://host?",
        ),
        (["--uri", "ws://"], "server_uri must look like ws://host:port", "--help"),
        (["--key", "nowhere"], "--key: there is no file nowhere", "ssh-keygen"),
        (["--config", "nowhere"], "nowhere: No such file or directory", "is the path right?"),
        (["--timeout", "0"], "--timeout must be more than 0 seconds", "30"),
        (["--timeout", "nan"], "--timeout must be more than 0 seconds", "30"),
        (["--identity", "a\nb"], "identity must be printable", "--help"),
    ],
)
def test_options_that_make_no_sense(run_here: RunHere, options: list[str], error: str, cure: str) -> None:
    result = run_here("ping", *options)
    assert result.code == 1
    assert result.stderr.startswith(f"error: {error}")
    assert cure in result.stderr.splitlines()[1]


class TestInit:
    def test_writes_what_the_official_client_reads(self, run_here: RunHere, home: Path, key_file: Path) -> None:
        result = run_here("config", "init", "--key", key_file, "--username", 'b"\\\n\tä', PIE_URI="ws://[::1]:81")
        path = home / ".pie/cli_config.toml"
        assert (result.code, result.stderr) == (0, f"[wrote {path}]\n")
        assert tomli.loads(path.read_text()) == {
            "host": "::1",
            "port": 81,
            "username": 'b"\\\n\tä',
            "private_key_path": str(key_file),
            "enable_auth": True,
        }
        assert shown(run_here("config", "show", "--username", "x"))["uri"] == ("ws://[::1]:81", str(path))
        assert [file.name for file in path.parent.iterdir()] == ["cli_config.toml"]

    def test_says_that_there_is_no_key_yet(self, run_here: RunHere, home: Path) -> None:
        result = run_here("config", "init")
        assert tomli.loads((home / ".pie/cli_config.toml").read_text())["private_key_path"] == "~/.ssh/id_ed25519"
        assert result.stderr.endswith(f"\nwarning: {home}/.ssh/id_ed25519: No such file or directory\n")

    def test_without_authentication(self, run_here: RunHere, home: Path) -> None:
        assert run_here("config", "init", "--no-auth", "--config", "mine.toml").code == 0
        values = tomli.loads((home / "mine.toml").read_text())
        assert (values["enable_auth"], values["private_key_path"]) == (False, "")

    def test_keeps_a_file_that_is_there(self, run_here: RunHere, config: Path) -> None:
        result = run_here("config", "init")
        assert result.code == 1
        assert result.stderr == f"error: there is {config} already\ncure: --force overwrites it\n"
        assert config.read_text() == FILE
        assert run_here("config", "init", "--force", "--no-auth").code == 0
        assert shown(run_here("config", "show"))["uri"][0] == "ws://127.0.0.1:8080"

    def test_a_uri_that_the_file_has_no_place_for(self, run_here: RunHere) -> None:
        result = run_here("config", "init", "--uri", "wss://pie.example.org")
        assert result.code == 1
        assert "PIE_URI" in result.stderr


class TestSet:
    def test_changes_one_setting_and_nothing_else(self, run_here: RunHere, config: Path) -> None:
        assert run_here("config", "set", "port", "9001").stderr == f"[set port in {config}]\n"
        assert config.read_text() == FILE.replace("port = 9000", "port = 9001")

    def test_adds_a_setting_before_the_tables(self, run_here: RunHere, config: Path) -> None:
        config.write_text('host = "a"\n\n[other]\nport = 1\n')
        assert run_here("config", "set", "port", "5").code == 0
        assert tomli.loads(config.read_text()) == {"host": "a", "port": 5, "other": {"port": 1}}

    def test_makes_the_file(self, run_here: RunHere, home: Path) -> None:
        assert run_here("config", "set", "username", "bob", PIE_CLI_HOME=str(home / "new")).code == 0
        assert (home / "new/cli_config.toml").read_text() == 'username = "bob"\n'

    def test_warns_of_a_key_that_is_none(self, run_here: RunHere, config: Path, home: Path) -> None:
        (home / "key").write_text("not really")
        result = run_here("config", "set", "private_key_path", "~/key")
        assert result.code == 0
        assert result.stderr.splitlines()[-1].startswith(f"warning: {home}/key: ")
        assert tomli.loads(config.read_text())["private_key_path"] == "~/key"

    @pytest.mark.parametrize(
        ("key", "value", "error"),
        [
            ("colour", "red", "there is no setting 'colour'"),
            ("port", "http", "port must be a port, 1 to 65535, not 'http'"),
            ("port", "65536", "port must be a port, 1 to 65535, not '65536'"),
            ("enable_auth", "yes", "enable_auth must be true or false, not 'yes'"),
        ],
    )
    def test_values_that_make_no_sense(
        self, run_here: RunHere, config: Path, key: str, value: str, error: str
    ) -> None:
        result = run_here("config", "set", key, value)
        assert result.code == 1
        assert result.stderr.startswith(f"error: {error}\ncure: ")
        assert config.read_text() == FILE

    def test_a_file_that_is_too_clever(self, run_here: RunHere, config: Path) -> None:
        text = '"port" = 1\n'
        config.write_text(text)
        result = run_here("config", "set", "port", "2")
        assert result.code == 1
        assert result.stderr.splitlines()[1] == "cure: change it by hand"
        assert config.read_text() == text
