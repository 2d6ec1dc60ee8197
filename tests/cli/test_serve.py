"""``serve``, in a process of its own."""

from __future__ import annotations

import codecs
import re
import signal
from pathlib import Path

import pytest

from pie_sync import Event, ParsedPrivateKey, PieClient
from pie_sync.testing import LocalServer
from tests.programs import HELLO

from .conftest import LIMIT, CommandLine, RunHere, finish, lines, python


def test_serving_without_its_extra_says_what_to_install() -> None:
    program = "import sys; sys.modules['wasmtime'] = sys.modules['websockets'] = None; sys.argv[1:] = ['serve'];"
    done = python(program + "from pie_sync.cli import main; main()")
    assert done.returncode == 1
    assert done.stderr.endswith("which is not installed\nhint: pip install 'pie-sync[testing]'\n")


@pytest.fixture
def folder(home: Path) -> Path:
    path = home / "programs"
    path.mkdir()
    (path / "hello.wasm").write_bytes(HELLO)
    (path / "broken.wasm").write_text("not really")
    (path / "notes.txt").touch()
    return path


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=["INT", "TERM", "HUP"])
def test_a_folder_of_programs(lonely_pie: CommandLine, folder: Path, signum: signal.Signals) -> None:
    process = lonely_pie.start("serve", folder, "--port", "0")
    uri = process.stdout.readline().strip()
    with PieClient(uri) as client:
        client.authenticate("alice")
        completed = client.launch_instance_from_registry("hello", ["Pie"]).wait(LIMIT)
        assert (completed.event, completed.stdout) == (Event.Completed, "Hello, Pie!\n")
        assert lonely_pie.output("run", "hello", "you", "--uri", uri) == "Hello, you!\n"
        process.send_signal(signum)
        returncode, _, stderr = finish(process)
    assert returncode == 0
    first, second, *activity, last = stderr.splitlines()
    assert first == f"warning: {folder}/broken.wasm is left out: no WebAssembly module"
    assert (second, last) == ("[serving hello; Ctrl-C ends the server]", "[ended]")
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in activity)
    told = [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", line[9:]) for line in activity]
    assert sorted(told) == sorted(
        [
            "connection 1 from 127.0.0.1",
            "launched hello as ID for alice",
            "ended ID (hello): Completed",
            "connection 2 from 127.0.0.1",
            "launched hello as ID for alice",
            "ended ID (hello): Completed",
            "connection 2 has ended",
            "connection 1 has ended",
        ]
    )


def test_a_quiet_server(lonely_pie: CommandLine, folder: Path) -> None:
    process = lonely_pie.start("serve", folder, "--port", "0", "--quiet")
    uri = process.stdout.readline().strip()
    assert lonely_pie.output("run", "hello", "you", "--uri", uri) == "Hello, you!\n"
    process.send_signal(signal.SIGINT)
    _, _, stderr = finish(process)
    assert stderr.splitlines()[1:] == ["[serving hello; Ctrl-C ends the server]", "[ended]"]


GREET = """
import helper

def main(context):
    context.stdout(helper.TEXT.format(context.args[0]))
    return "done"
"""


def test_python_files(lonely_pie: CommandLine, home: Path) -> None:
    """A file with a function main(context) is a program; any other script is not even run."""
    folder = home / "programs"
    folder.mkdir()
    (folder / "greet.py").write_text(GREET)
    (folder / "helper.py").write_text('TEXT = "Hello, {}!\\n"')
    (folder / "setup.py").write_text("raise SystemExit('I was run')\ndef main(): pass")
    (folder / "broken.py").write_text("def main(context):\n  return undefined\nundefined")
    (folder / "half.py").write_text("def main(context")
    process = lonely_pie.start("serve", folder, "--port", "0")
    uri = process.stdout.readline().strip()
    assert lonely_pie.output("run", "greet", "you", "--uri", uri) == "Hello, you!\ndone\n"
    process.send_signal(signal.SIGINT)
    _, _, stderr = finish(process)
    broken, half, others, serving, *_ = stderr.splitlines()
    assert broken == f"warning: {folder}/broken.py is left out: NameError: name 'undefined' is not defined"
    assert half.startswith(f"warning: {folder}/half.py is left out: SyntaxError: ")
    assert others == "[left out, without a function main(context): helper.py, setup.py]"
    assert serving == "[serving greet; Ctrl-C ends the server]"


@pytest.mark.parametrize("protocol", ["instance", "process", "process-0.5"])
def test_one_file(lonely_pie: CommandLine, home: Path, protocol: str) -> None:
    (home / "hi.py").write_text("def main(context):\n    return 'hi'\n")
    process = lonely_pie.start("serve", "hi.py", "--port", "0", "--protocol", protocol)
    uri = process.stdout.readline().strip()
    assert "hi" in lonely_pie.output("run", "hi@0.1.0" if protocol == "process" else "hi", "--uri", uri)


def test_users(lonely_pie: CommandLine, key_file: Path, private_key: ParsedPrivateKey) -> None:
    process = lonely_pie.start("serve", "--port", "0", "--user", f"alice={key_file}.pub")
    uri = process.stdout.readline().strip()
    assert lonely_pie.output("ping", "--uri", uri, "--key", key_file).endswith("instance protocol\n")
    done = lonely_pie("ping", "--uri", uri, "--key", key_file, "--username", "eve")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the server refuses 'eve'")
    with PieClient(uri) as client:
        client.authenticate("alice", private_key)


def test_the_other_generation(lonely_pie: CommandLine, folder: Path) -> None:
    process = lonely_pie.start("serve", folder, "--port", "0", "--protocol", "process-0.5")
    uri = process.stdout.readline().strip()
    assert lonely_pie.output("ping", "--uri", uri).endswith("process protocol\n")
    assert lonely_pie.output("run", "hello", "--uri", uri, "--", "--a", "1") == 'Hello, {"a": 1}!\n'


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nowhere"], "there is no file or folder nowhere"),
        (["--user", "alice"], "--user 'alice'"),
        (["--user", "alice=nowhere.pub"], "nowhere.pub: No such file or directory"),
        (["--user", "alice=programs/notes.txt"], "programs/notes.txt is empty"),
        (["--user", "alice=programs/broken.wasm"], "alice"),
        (["--protocol", "smoke"], "protocol must be one of"),
        (["--host", "no.such.host.invalid"], "can't listen on no.such.host.invalid, port 8080"),
    ],
)
def test_what_cannot_be_served(run_here: RunHere, folder: Path, arguments: list[str], error: str) -> None:
    result = run_here("serve", *arguments)
    assert (result.code, result.stdout) == (1, "")
    assert error in result.stderr.splitlines()[0]
    assert result.stderr.splitlines()[1].startswith("hint: ")


def test_a_port_that_is_taken(run_here: RunHere, server: LocalServer) -> None:
    result = run_here("serve", "--port", server.port)
    assert result.code == 1
    assert "Address already in use" in result.stderr.splitlines()[0]
    assert result.stderr.endswith("\nhint: --port 0 takes a free one\n")


def test_public_keys_with_a_byte_order_mark(lonely_pie: CommandLine, key_file: Path, home: Path) -> None:
    (home / "alice.pub").write_bytes(codecs.BOM_UTF8 + Path(f"{key_file}.pub").read_bytes())
    process = lonely_pie.start("serve", "--port", "0", "--user", "alice=alice.pub")
    uri = process.stdout.readline().strip()
    assert lonely_pie.output("ping", "--uri", uri, "--key", key_file).endswith("instance protocol\n")


def test_public_keys_in_another_encoding(run_here: RunHere, key_file: Path, home: Path) -> None:
    (home / "alice.pub").write_text(Path(f"{key_file}.pub").read_text(), encoding="utf-16")
    found = lines(run_here("serve", "--port", "0", "--user", "alice=alice.pub"))
    assert found == ("alice.pub is UTF-16 text, not UTF-8", "save it as UTF-8")
