"""``PieClient.from_env``: the settings of the command, without the command.

``tests/cli/test_settings.py`` has the order of precedence.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pie_sync import AuthenticationError, InvalidKeyError, PieClient, PieConnectionError, PieValueError
from pie_sync.testing import LocalServer


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("URI", "USERNAME", "KEY", "IDENTITY", "PROFILE", "CLI_HOME"):
        monkeypatch.delenv(f"PIE_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOGNAME", "alice")
    (tmp_path / ".pie").mkdir()
    return tmp_path


@pytest.fixture
def guarded(key_file):
    with LocalServer(users={"alice": Path(f"{key_file}.pub").read_text()}) as server:
        yield server


def test_the_environment(home, server, monkeypatch):
    monkeypatch.setenv("PIE_URI", server.uri)
    with PieClient.from_env() as client:
        assert client.server_uri == server.uri
        assert client.list_instances() == []
        client.launch_instance_from_registry("echo")
        assert client.list_instances()[0].username == "alice"


def test_the_file_and_its_profiles(home, server, guarded, key_file, monkeypatch):
    (home / ".pie/cli_config.toml").write_text(
        f'host = "127.0.0.1"\nport = {server.port}\nusername = "bob"\n'
        f'[profiles.guarded]\nuri = "{guarded.uri}"\nusername = "alice"\nprivate_key_path = "{key_file}"\n'
    )
    with PieClient.from_env() as client:
        assert client.server_uri == server.uri
    with PieClient.from_env("guarded") as client:
        assert client.server_uri == guarded.uri
    monkeypatch.setenv("PIE_PROFILE", "guarded")
    with PieClient.from_env(timeout=20, reconnect=True) as client:
        assert client.server_uri == guarded.uri
    with pytest.raises(PieValueError, match="there is no profile 'moon'"):
        PieClient.from_env("moon")


def test_another_file(home, server):
    (home / "mine.toml").write_text(f'uri = "{server.uri}"')
    with PieClient.from_env(config="~/mine.toml") as client:
        assert client.server_uri == server.uri
    with pytest.raises(FileNotFoundError):
        PieClient.from_env(config=home / "nowhere.toml")


def test_the_first_key(home, guarded, key_file, monkeypatch):
    monkeypatch.setenv("PIE_URI", guarded.uri)
    with pytest.raises(AuthenticationError, match="there is no private key: there is none in ~/.ssh") as caught:
        PieClient.from_env()
    assert "PIE_KEY" in caught.value.hint
    (home / ".ssh").mkdir()
    shutil.copy(key_file, home / ".ssh/id_ed25519")
    PieClient.from_env().close()


def test_an_encrypted_key_is_read_when_it_is_wanted(home, server, monkeypatch):
    key = home / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", key], check=True)
    monkeypatch.setenv("PIE_KEY", str(key))
    PieClient.from_env(config=config_of(home, server)).close()  # which wants no signature
    with LocalServer(users={"alice": key.with_suffix(".pub").read_text()}) as other:
        with pytest.raises(InvalidKeyError, match="password="):
            PieClient.from_env(config=config_of(home, other))
        PieClient.from_env(config=config_of(home, other), password="open sesame").close()


def config_of(home: Path, server: LocalServer) -> Path:
    path = home / "server.toml"
    path.write_text(f'uri = "{server.uri}"')
    return path


def test_what_fails_leaves_no_connection(home, monkeypatch):
    monkeypatch.setenv("PIE_URI", "ws://127.0.0.1:1")
    with pytest.raises(PieConnectionError):
        PieClient.from_env()
    monkeypatch.setenv("PIE_URI", "127.0.0.1")
    with pytest.raises(PieValueError, match="is not the URI of a Pie server") as caught:
        PieClient.from_env()
    assert caught.value.hint == "did you mean ws://127.0.0.1?"


def test_the_library_needs_nothing_of_the_command(home, server, monkeypatch):
    monkeypatch.setenv("PIE_URI", server.uri)
    program = (
        "import sys; sys.modules.update(typer=None, rich=None, click=None)\n"
        "from pie_sync import PieClient\n"
        "with PieClient.from_env() as client: print(client.ping() > 0)\n"
        "print('pie_sync.cli' in sys.modules)"
    )
    printed = subprocess.check_output([sys.executable, "-W", "error", "-c", program], text=True, timeout=60)
    assert printed == "True\nFalse\n"


class TestKeysOfAuthenticate:
    @pytest.mark.parametrize("kind", [str, Path])
    def test_a_path(self, home, guarded, key_file, kind):
        shutil.copy(key_file, home / "key")
        with PieClient(guarded.uri) as client:
            client.authenticate("alice", kind("~/key"))
            assert client.ping() > 0

    def test_an_agent(self, home, guarded, monkeypatch):
        monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
        with PieClient(guarded.uri) as client, pytest.raises(InvalidKeyError, match="agent"):
            client.authenticate("alice", "agent")

    def test_a_file_that_is_none(self, home, guarded):
        with PieClient(guarded.uri) as client, pytest.raises(FileNotFoundError, match="nowhere"):
            client.authenticate("alice", "~/nowhere")

    def test_the_text_of_a_key_does_not_show_up_in_an_error(self, home, guarded, key_file):
        text = key_file.read_text()
        with PieClient(guarded.uri) as client, pytest.raises(PieValueError) as caught:
            client.authenticate("alice", text)
        assert "ParsedPrivateKey.parse(text)" in str(caught.value)
        assert text.splitlines()[2] not in repr(caught.value)
