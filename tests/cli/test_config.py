"""``config init`` and ``config set``."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .conftest import CTRL_C, CTRL_D, FILE, CommandLine, RunHere, end_of, lines, shown, toml


class TestInit:
    def test_writes_what_the_official_client_reads(self, run_here: RunHere, home: Path, key_file: Path) -> None:
        result = run_here("config", "init", "--key", key_file, "--username", 'b"\\\n\tä', PIE_URI="ws://[::1]:81")
        path = home / ".pie/cli_config.toml"
        assert (result.code, result.stderr) == (0, f"[wrote {path}]\n")
        assert toml(path) == {
            "host": "::1",
            "port": 81,
            "username": 'b"\\\n\tä',
            "private_key_path": str(key_file),
            "enable_auth": True,
        }
        assert shown(run_here("config", "show", "--username", "x"))["uri"] == ("ws://[::1]:81", str(path))
        assert [file.name for file in path.parent.iterdir()] == ["cli_config.toml"]

    def test_without_a_key_it_writes_none(self, run_here: RunHere, home: Path, keys: Path) -> None:
        result = run_here("config", "init")
        assert result.stderr.endswith(
            "\n[without a private key, since there is none in ~/.ssh: `ssh-keygen -t ed25519` makes one]\n"
        )
        values = toml(home / ".pie/cli_config.toml")
        assert "private_key_path" not in values
        assert values["enable_auth"] is True
        (keys / "id_rsa").touch()  # made later, it is used
        assert shown(run_here("config", "show"))["key"] == (str(keys / "id_rsa"), "default")

    def test_without_authentication(self, run_here: RunHere, home: Path) -> None:
        assert run_here("config", "init", "--no-auth", "--config", "mine.toml").code == 0
        values = toml(home / "mine.toml")
        assert values["enable_auth"] is False
        assert "private_key_path" not in values

    def test_keeps_a_file_that_is_there(self, run_here: RunHere, config: Path) -> None:
        result = run_here("config", "init")
        assert result.code == 1
        assert result.stderr == (
            f"error: there is {config} already\nhint: --force overwrites its settings, but no profile\n"
        )
        assert config.read_text() == FILE
        assert run_here("config", "init", "--force", "--no-auth").code == 0
        assert shown(run_here("config", "show"))["uri"][0] == "ws://127.0.0.1:8080"
        assert toml(config)["other"] == {"port": 1}, "what is not ours stays"
        assert "private_key_path" not in toml(config)

    def test_after_a_profile(self, run_here: RunHere, home: Path) -> None:
        """The top of the file has nothing to overwrite then, and later the profile is not part of it."""
        assert run_here("config", "init", "--profile", "cloud", "--uri", "wss://pie.example.org").code == 0
        cloud = toml(home / ".pie/cli_config.toml")["profiles"]
        for options, uri in (([], "wss://pie.example.org/x"), (["--force"], "ws://here:1")):
            assert run_here("config", "init", "--no-auth", "--uri", uri, *options).code == 0
            assert shown(run_here("config", "show"))["uri"][0] == uri
            assert toml(home / ".pie/cli_config.toml")["profiles"] == cloud

    @pytest.mark.parametrize("content", ["port = 0", "profiles = 5", "no toml", b"\xff"])
    def test_in_place_of_a_file_that_makes_no_sense(
        self, run_here: RunHere, config: Path, content: str | bytes
    ) -> None:
        config.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert run_here("config", "init", "--no-auth").code == 1
        assert run_here("config", "init", "--no-auth", "--force").code == 0
        assert shown(run_here("config", "show"))["uri"][0] == "ws://127.0.0.1:8080"

    @pytest.mark.parametrize(
        ("uri", "error"),
        [
            ("ws://", "--uri: the address must look like ws://host:port or wss://host:port, got 'ws://'"),
            ("ws://a:0", "--uri: the address must have a port from 1 to 65535, or none, got 'ws://a:0'"),
        ],
    )
    def test_addresses_that_make_no_sense(self, run_here: RunHere, home: Path, uri: str, error: str) -> None:
        """The command's words, and not those of PieClient's arguments."""
        for command in (["config", "init"], ["ping"]):
            found, hint = lines(run_here(*command, "--uri", uri))
            assert found == error
            assert hint.startswith("for example ws://127.0.0.1:8080")
        assert not (home / ".pie").exists()

    @pytest.mark.parametrize(
        ("uri", "port"),
        [("wss://pie.example.org", 443), ("ws://pie.example.org:90/v1/ws", 90), ("wss://pie.example.org:1", 1)],
    )
    def test_a_whole_address(self, run_here: RunHere, home: Path, uri: str, port: int) -> None:
        """The official client still finds a host and a port, of the types that it expects."""
        assert run_here("config", "init", "--no-auth", "--uri", uri).code == 0
        assert shown(run_here("config", "show"))["uri"][0] == uri
        values = toml(home / ".pie/cli_config.toml")
        assert (values["host"], values["port"]) == ("pie.example.org", port)


class TestProfiles:
    def test_another_server_in_the_same_file(self, run_here: RunHere, config: Path, key_file: Path) -> None:
        result = run_here("config", "init", "--profile", "cloud", "--uri", "wss://pie/x", "--key", key_file)
        assert result.code == 0
        assert result.stderr.splitlines() == [
            f"[wrote the profile cloud into {config}]",
            "[--profile cloud, or the variable PIE_PROFILE, takes it]",
        ]
        assert config.read_text().startswith(FILE), "everything else is as it was"
        assert toml(config)["profiles"] == {
            "cloud": {
                "uri": "wss://pie/x",
                "username": "alice",
                "private_key_path": str(key_file),
                "enable_auth": True,
            }
        }
        assert run_here("config", "init", "--profile", "lab", "--uri", "ws://lab:1", "--no-auth").code == 0
        assert set(toml(config)["profiles"]) == {"cloud", "lab"}
        result = run_here("config", "show", "--profile", "lab")
        assert shown(result)["uri"] == ("ws://lab:1", f"profile lab in {config}")
        assert "[profiles: cloud, lab; --profile NAME takes one]" in result.stderr

    def test_a_profile_is_not_overwritten_unasked(self, run_here: RunHere, config: Path) -> None:
        arguments = ["config", "init", "--no-auth", "--profile", "lab", "--uri"]
        assert run_here(*arguments, "ws://lab:1").code == 0
        assert lines(run_here(*arguments, "ws://lab:2")) == (
            f"there is the profile lab in {config} already",
            "--force overwrites it",
        )
        assert run_here("config", "set", "identity", "a/b", "--profile", "lab").code == 0
        assert run_here(*arguments, "ws://lab:2", "--force").code == 0
        assert toml(config)["profiles"]["lab"] == {"uri": "ws://lab:2", "username": "alice", "enable_auth": False}

    def test_settings_of_a_profile(self, run_here: RunHere, config: Path) -> None:
        for key, value in [("uri", "wss://lab"), ("username", "eve"), ("username", "eva"), ("port", "3")]:
            assert run_here("config", "set", key, value, "--profile", "lab").code == 0
        assert toml(config)["profiles"] == {"lab": {"uri": "wss://lab:3", "username": "eva"}}
        assert (toml(config)["username"], toml(config)["port"]) == ("bob", 9000)

    def test_one_that_is_there_already(self, run_here: RunHere, config: Path) -> None:
        assert run_here("config", "init", "--profile", "cloud", "--uri", "wss://pie").code == 0
        before = config.read_text()
        found = lines(run_here("config", "init", "--profile", "cloud", "--uri", "ws://other"))
        assert found == (f"there is the profile cloud in {config} already", "--force overwrites it")
        assert config.read_text() == before
        assert run_here("config", "init", "--profile", "cloud", "--uri", "ws://other", "--force").code == 0
        assert toml(config)["profiles"]["cloud"]["uri"] == "ws://other"

    def test_another_host_of_one(self, run_here: RunHere, config: Path) -> None:
        assert run_here("config", "init", "--no-auth", "--profile", "cloud", "--uri", "wss://pie/x").code == 0
        assert run_here("config", "set", "port", "9", "--profile", "cloud").stderr.startswith(
            "[the address is now wss://pie:9/x]\n"
        )
        assert run_here("config", "set", "host", "::1", "--profile", "cloud").code == 0
        profile = toml(config)["profiles"]["cloud"]
        assert (profile["uri"], set(profile) & {"host", "port"}) == ("wss://[::1]:9/x", set())

    def test_a_name_that_can_be_none(self, run_here: RunHere, config: Path) -> None:
        error, _ = lines(run_here("config", "set", "port", "1", "--profile", "a.b"))
        assert error == "'a.b' can't be the name of a profile"
        assert config.read_text() == FILE


class TestSet:
    def test_changes_one_setting_and_nothing_else(self, run_here: RunHere, config: Path) -> None:
        assert run_here("config", "set", "port", "9001").stderr == f"[set port in {config}]\n"
        assert config.read_text() == FILE.replace("port = 9000", "port = 9001")

    def test_a_whole_address_and_back(self, run_here: RunHere, config: Path) -> None:
        assert run_here("config", "set", "uri", "wss://pie").code == 0
        assert (toml(config)["uri"], toml(config)["host"], toml(config)["port"]) == ("wss://pie", "pie", 443)
        result = run_here("config", "set", "host", "other")
        assert result.stderr.splitlines()[0] == "[the address is now wss://other]"
        assert shown(run_here("config", "show"))["uri"][0] == "wss://other", "TLS does not get lost"
        assert (toml(config)["host"], toml(config)["port"]) == ("other", 443)
        assert run_here("config", "set", "uri", "ws://gpu-box:9000").code == 0
        assert config.read_text() == FILE, "what the official client understands needs no uri"

    def test_a_symbolic_link_stays_one(self, run_here: RunHere, config: Path, home: Path) -> None:
        """People keep such files in a repository, and link to them."""
        (home / "dotfiles").mkdir()
        target = home / "dotfiles/pie.toml"
        config.rename(target)
        target.chmod(0o600)
        config.symlink_to(target)
        assert run_here("config", "set", "port", "1").code == 0
        assert config.is_symlink()
        assert toml(target)["port"] == 1
        assert target.stat().st_mode & 0o777 == 0o600
        assert run_here("config", "init", "--force", "--no-auth").code == 0
        assert config.is_symlink()
        assert [path.name for path in target.parent.iterdir()] == ["pie.toml"]

    def test_adds_a_setting_before_the_tables(self, run_here: RunHere, config: Path) -> None:
        config.write_text('host = "a"\n\n[other]\nport = 1\n')
        assert run_here("config", "set", "port", "5").code == 0
        assert toml(config) == {"host": "a", "port": 5, "other": {"port": 1}}

    def test_makes_the_file(self, run_here: RunHere, home: Path) -> None:
        assert run_here("config", "set", "username", "bob", PIE_CLI_HOME=str(home / "new")).code == 0
        assert (home / "new/cli_config.toml").read_text() == 'username = "bob"\n'

    def test_warns_of_a_key_that_is_none(self, run_here: RunHere, config: Path, home: Path) -> None:
        (home / "key").write_text("not really")
        result = run_here("config", "set", "private_key_path", "~/key")
        assert result.code == 0
        assert result.stderr.splitlines()[-1].startswith(f"warning: {home}/key: ")
        assert toml(config)["private_key_path"] == "~/key"

    @pytest.mark.parametrize(
        ("key", "value", "error"),
        [
            ("colour", "red", "there is no setting 'colour'"),
            ("port", "http", "port must be a port, 1 to 65535, not 'http'"),
            ("port", "65536", "port must be a port, 1 to 65535, not '65536'"),
            ("enable_auth", "yes", "enable_auth must be true or false, not 'yes'"),
            ("username", "", "username must not be empty"),
            ("host", "", "host must not be empty"),
            ("uri", "", "uri must not be empty"),
            ("identity", "", "identity must not be empty"),
            ("private_key_path", "/no/such/key", "there is no file /no/such/key"),
            (
                "uri",
                "localhost",
                "uri: the address must look like ws://host:port or wss://host:port, got 'localhost'",
            ),
            ("host", "ws://here", "host: the address "),
            ("host", "a b", "host: the address has no usable host"),
        ],
    )
    def test_values_that_make_no_sense(
        self, run_here: RunHere, config: Path, key: str, value: str, error: str
    ) -> None:
        result = run_here("config", "set", key, value)
        assert result.code == 1
        found_error, hint = result.stderr.splitlines()
        assert found_error.startswith(f"error: {error}")
        assert hint.startswith("hint: ")
        assert f"pie-sync config set {key} VALUE" not in hint
        assert config.read_text() == FILE

    @pytest.mark.parametrize(
        ("key", "value", "hint"),
        [
            ("port", "abc", "for example `pie-sync config set port 8080`"),
            ("enable_auth", "yes", "for example `pie-sync config set enable_auth true`"),
            ("uri", "localhost", "did you mean ws://localhost?"),
        ],
    )
    def test_a_hint_that_works(self, run_here: RunHere, config: Path, key: str, value: str, hint: str) -> None:
        assert lines(run_here("config", "set", key, value))[1] == hint
        example = re.findall(r"`pie-sync (.*)`|mean (\S*)\?", hint)[0]
        command = example[0].split() if example[0] else ["config", "set", key, example[1]]
        assert run_here(*command).code == 0

    def test_a_value_of_the_file_that_makes_no_sense(self, run_here: RunHere, config: Path) -> None:
        """The hint names the command that sets another one, and that works."""
        config.write_text('port = 0\n\n[profiles.lab]\nport = "x"\n')
        assert lines(run_here("ping"))[1] == "`pie-sync config set port VALUE` sets another one"
        assert run_here("config", "set", "port", "8080").code == 0
        assert lines(run_here("ping"))[1] == "`pie-sync config set port VALUE --profile lab` sets another one"
        assert run_here("config", "set", "port", "81", "--profile", "lab").code == 0
        assert shown(run_here("config", "show", "--profile", "lab"))["uri"][0] == "ws://127.0.0.1:81"

    def test_a_file_that_is_too_clever(self, run_here: RunHere, config: Path) -> None:
        text = '"port" = 1\n'
        config.write_text(text)
        result = run_here("config", "set", "port", "2")
        assert result.code == 1
        assert result.stderr.splitlines()[1] == "hint: change it by hand"
        assert config.read_text() == text


def test_a_configuration_is_not_overwritten_unasked(lonely_pie: CommandLine, home: Path) -> None:
    assert lonely_pie("config", "init", "--no-auth").returncode == 0
    path = home / ".pie/cli_config.toml"
    for answer, port in [("n", 8080), ("", 8080), ("what?\nNO", 8080), ("y", 1)]:
        terminal = lonely_pie.spawn("config", "init", "--no-auth", "--uri", "ws://127.0.0.1:1")
        terminal.expect_exact(f"There is {path} already. Overwrite its settings? [y/N]: ")
        terminal.sendline(answer)
        assert end_of(terminal) == 0
        assert f"port = {port}\n" in path.read_text()
    for key, code in [(CTRL_C, 130), (CTRL_D, 1)]:
        terminal = lonely_pie.spawn("config", "init")
        terminal.expect_exact("[y/N]: ")
        terminal.send(key)
        assert end_of(terminal) == code
        assert "error" not in terminal.before
    assert "port = 1\n" in path.read_text()


def test_no_home_directory(homeless: RunHere, home: Path) -> None:
    for arguments in (["init"], ["set", "port", "1"]):
        error, hint = lines(homeless("config", *arguments))
        assert error == "there is no home directory for the configuration file"
        assert hint == "--config FILE names the file, or the environment variable PIE_CLI_HOME its folder"
    assert homeless("config", "init", "--no-auth", "--config", home / "mine.toml").code == 0
    assert toml(home / "mine.toml")["username"] == ""
    assert homeless("config", "set", "port", "1", PIE_CLI_HOME=str(home)).code == 0
    assert toml(home / "cli_config.toml") == {"port": 1}


def test_an_empty_path_of_a_key_is_none(run_here: RunHere, config: Path) -> None:
    assert run_here("config", "set", "private_key_path", "").stderr == f"[set private_key_path in {config}]\n"
    assert shown(run_here("config", "show"))["key"][0] == "-"


def test_an_encrypted_key_is_fine(run_here: RunHere, home: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", home / "key"], check=True)
    result = run_here("config", "set", "private_key_path", home / "key")
    assert result == (0, "", f"[set private_key_path in {home}/.pie/cli_config.toml]\n")
