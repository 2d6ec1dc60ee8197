"""Private keys as objects, and the files and texts that they are made from."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import pie_sync.keys
from pie_sync.errors import InvalidKeyError, PieError
from pie_sync.keys import ParsedPrivateKey
from tests.keys.key_files import ALGORITHMS, CHALLENGE, KeyMaker, verify


class TestTexts:
    @pytest.mark.parametrize("text", [None, 5, Path("key"), ["-----BEGIN"]])
    def test_wrong_type_of_text(self, text):
        with pytest.raises(TypeError, match=r"text must be str or bytes, not \w+; for a path there is from_file"):
            ParsedPrivateKey.parse(text)

    @pytest.mark.parametrize("password", [5, ["secret"], bytearray(b"secret")])
    def test_wrong_type_of_password(self, make_key, password):
        path, _ = make_key("ssh-keygen", "ed25519", "OPENSSH")
        for load in (ParsedPrivateKey.parse, ParsedPrivateKey.from_file):
            argument = path.read_text() if load == ParsedPrivateKey.parse else path
            with pytest.raises(TypeError, match="password must be str or bytes, not") as caught:
                load(argument, password)
            assert "secret" not in str(caught.value)


class TestFiles:
    def test_home_directory(self, make_key, tmp_path, monkeypatch):
        path, public = make_key("ssh-keygen", "ed25519", "OPENSSH")
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "id_ed25519").write_bytes(path.read_bytes())
        (tmp_path / ".ssh" / "id_ed25519").chmod(0o600)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        for name in ("~/.ssh/id_ed25519", Path("~/.ssh/id_ed25519")):
            verify(public, ParsedPrivateKey.from_file(name).sign(CHALLENGE), CHALLENGE)

    def test_not_found(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            ParsedPrivateKey.from_file(tmp_path / "none")
        assert caught.value.filename == str(tmp_path / "none")

    def test_a_folder(self, tmp_path):
        with pytest.raises(OSError, match=r"directory|denied"):
            ParsedPrivateKey.from_file(tmp_path)

    def test_a_refusal_names_the_file_and_keeps_the_cause(self, make_key):
        path, _ = make_key("ssh-keygen", "ed25519", "OPENSSH", encrypted=True)
        with pytest.raises(InvalidKeyError) as caught:
            ParsedPrivateKey.from_file(path, "wrong")
        assert str(caught.value).startswith(f"{path}: wrong password for the private key")
        assert caught.value.__cause__ is not None
        assert isinstance(caught.value, PieError)
        assert isinstance(caught.value, ValueError)

    def test_a_large_file(self, tmp_path):
        path = tmp_path / "disk.img"
        path.write_bytes(bytes(1024 * 1024 + 1))
        with pytest.raises(InvalidKeyError, match="larger than 1 MiB"):
            ParsedPrivateKey.from_file(path)
        path.write_bytes(bytes(1024 * 1024))
        with pytest.raises(InvalidKeyError, match="there is no line"):
            ParsedPrivateKey.from_file(path)

    @pytest.mark.parametrize("path", [None, 0, b"key"])
    def test_wrong_type(self, path):
        with pytest.raises(TypeError, match=r"path|os\.PathLike"):
            ParsedPrivateKey.from_file(path)


class TestPermissions:
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
    def test_a_file_that_others_can_read(self, key_file, tmp_path, mode):
        path = tmp_path / "key"
        path.write_bytes(key_file.read_bytes())
        path.chmod(mode)
        with pytest.warns(UserWarning, match=f"others can read this private key.*chmod 600 {path}"):
            ParsedPrivateKey.from_file(path)
        with pytest.raises(InvalidKeyError, match="others can read"):
            ParsedPrivateKey.from_file(path, strict_permissions=True)

    def test_a_file_of_ones_own(self, key_file):
        assert ParsedPrivateKey.from_file(key_file, strict_permissions=True).algorithm == "ssh-ed25519"


class TestTheObject:
    @pytest.fixture
    def key(self, make_key: KeyMaker) -> ParsedPrivateKey:
        return ParsedPrivateKey.from_file(make_key("ssh-keygen", "ed25519", "OPENSSH").path)

    @pytest.mark.parametrize("kind", list(ALGORITHMS))
    def test_repr(self, make_key, kind):
        key = ParsedPrivateKey.from_file(make_key("ssh-keygen", kind, "OPENSSH").path)
        expected = f"<ParsedPrivateKey {ALGORITHMS[kind]} {key.fingerprint}>"
        assert repr(key) == str(key) == f"{key}" == expected

    @pytest.mark.parametrize("name", ["algorithm", "fingerprint", "password"])
    def test_immutable(self, key, name):
        with pytest.raises(AttributeError):
            setattr(key, name, "x")

    def test_made_only_by_its_class_methods(self):
        with pytest.raises(TypeError, match=r"from_file\(path\) or ParsedPrivateKey.parse\(text\)"):
            ParsedPrivateKey()

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_no_pickling(self, key, protocol):
        with pytest.raises(TypeError, match=r"load it there with ParsedPrivateKey.from_file\(path\)"):
            pickle.dumps(key, protocol)

    @pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy])
    def test_no_copying(self, key, make_copy):
        with pytest.raises(TypeError, match="can't be pickled or copied"):
            make_copy(key)


class TestTheProcess:
    """What the libraries underneath do to a process, each looked at in a process of its own."""

    @staticmethod
    def run(code: str, *arguments: object) -> str:
        root = Path(pie_sync.keys.__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def test_importing_the_module_imports_no_cryptography(self):
        code = (
            "import sys, pie_sync.keys\n"
            "print([name for name in ('paramiko', 'cryptography', 'nacl', 'bcrypt') if name in sys.modules])"
        )
        assert self.run(code) == "[]"

    @pytest.mark.parametrize("kind", list(ALGORITHMS))
    def test_its_state_is_left_alone(self, make_key, kind):
        """Loading a key and signing change no setting, log nothing and warn of nothing."""
        path, _ = make_key("ssh-keygen", kind, "OPENSSH")
        code = """
import logging, os, signal, socket, sys, threading, warnings
from pie_sync.keys import ParsedPrivateKey

class Handler(logging.Handler):
    def emit(self, record):
        print("logged:", record.name, record.getMessage())

def state():
    return (
        logging.root.level, list(logging.root.handlers), logging.root.manager.disable, logging.getLoggerClass(),
        logging.getLevelName(5), list(warnings.filters), warnings.showwarning, socket.getdefaulttimeout(),
        sys.excepthook, threading.excepthook, threading.active_count(), sys.getrecursionlimit(), dict(os.environ),
        [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)],
        {name for name, logger in logging.root.manager.loggerDict.items() if getattr(logger, "handlers", None)},
        {name for name, logger in logging.root.manager.loggerDict.items() if getattr(logger, "level", 0)},
    )

logging.root.addHandler(Handler())
logging.root.setLevel(1)
before = state()
ParsedPrivateKey.from_file(sys.argv[1]).sign(b"x")
print([(old, new) for old, new in zip(before, state()) if old != new])
"""
        assert self.run(code, path) == "[]"
