"""Runs the command as users do: in a process of its own, with a home directory of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, NamedTuple, NoReturn

import pexpect
import pytest

from pie_sync.cli import main
from pie_sync.cli._interruption import SIGNALS, Interruption
from pie_sync.testing import LocalServer, ProgramContext
from tests.programs import HELLO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LIMIT = 30.0  # seconds, for every command in a test

COMMAND = [sys.executable, "-m", "pie_sync.cli"]

COMMANDS = ["run", "attach", "list", "terminate", "upload", "map", "query", "ping", "serve"]
CONFIG_COMMANDS = ["config init", "config show", "config set"]


class CommandLine:
    """Starts the command; ends all processes that a test has left.

    Attributes:
        home: the user's home directory.
        environment: the user's environment variables.
    """

    def __init__(self, home: Path, server_uri: str | None = None) -> None:
        self.home = home
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PIE_")}
        self.environment.pop("PYTHONUNBUFFERED", None)  # output is buffered, as users have it
        self.environment.update(
            HOME=str(home), LOGNAME="alice", COLUMNS="120", TERM="xterm", PYTHONWARNINGS="error", NO_COLOR="1"
        )
        if server_uri is not None:
            self.environment["PIE_URI"] = server_uri
        self._started: list[subprocess.Popen[Any]] = []
        self._spawned: list[pexpect.spawn] = []

    def __call__(self, *arguments: Any, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end, with pipes."""
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            input=stdin,
            env={**self.environment, **environment},
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )

    def output(self, *arguments: Any, **more: Any) -> str:
        """Run the command to its end, check that it succeeded, and return its stdout."""
        done = self(*arguments, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *arguments: Any, **options: Any) -> subprocess.Popen[str]:
        """Start the command, with pipes."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=self.environment,
            cwd=self.home,
            text=True,
            bufsize=1,
            **{**pipes, **options},
        )
        self._started.append(process)
        return process

    def spawn(self, *arguments: Any) -> pexpect.spawn:
        """Start the command in a terminal."""
        return self.spawn_program(COMMAND[0], [*COMMAND[1:], *map(str, arguments)])

    def spawn_program(self, program: str, arguments: list[str], columns: int = 120) -> pexpect.spawn:
        """Start any program in a terminal. The variable ``COLUMNS`` counts more than the width given here."""
        terminal = pexpect.spawn(
            program,
            arguments,
            env=self.environment,
            cwd=str(self.home),
            timeout=LIMIT,
            encoding="utf-8",
            dimensions=(24, columns),
        )
        # No delay before input: the tests themselves wait until the program is ready for it.
        terminal.delaybeforesend = None
        self._spawned.append(terminal)
        return terminal

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        for terminal in self._spawned:
            terminal.close(force=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end of a process; return the exit code and the rest of its output."""
    stdout, stderr = process.communicate(timeout=LIMIT)
    return process.returncode, stdout, stderr


def end_of(terminal: pexpect.spawn) -> int:
    """Wait for the end of the program in a terminal, and return its exit code."""
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus is not None
    return terminal.exitstatus


def all_of(terminal: pexpect.spawn) -> str:
    """Wait for the end, check that the program succeeded, and return its output without escape sequences."""
    assert end_of(terminal) == 0, terminal.before
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.before)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def pie(home: Path, server: LocalServer) -> Iterator[CommandLine]:
    """The command, configured for ``server``."""
    command = CommandLine(home, server.uri)
    yield command
    command.close()


@pytest.fixture
def lonely_pie(home: Path) -> Iterator[CommandLine]:
    """The command without a server."""
    command = CommandLine(home)
    yield command
    command.close()


class Result(NamedTuple):
    """The result of a command that ran in the test's own process."""

    code: int
    stdout: str
    stderr: str


RunHere = Callable[..., Result]


@pytest.fixture
def run_here(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunHere:
    """The command in the test's own process, which is quicker: for tests that need neither pipes nor signals."""
    for name in os.environ:
        if name.startswith("PIE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LOGNAME", "alice")
    monkeypatch.chdir(home)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}

    def run(*arguments: object, **environment: str) -> Result:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["pie-sync", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, value)
            try:
                with pytest.raises(SystemExit) as ended:
                    main()
            finally:
                for signum, handler in handlers.items():
                    signal.signal(signum, handler)
        return Result(int(ended.value.code or 0), *capsys.readouterr())

    return run


def lines(result: Result) -> tuple[str, str]:
    """Return the error and the hint, and check that the command printed nothing else."""
    assert (result.code, result.stdout) == (1, "")
    error, hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    return error[7:], hint[6:]


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def guarded(key_file: Path):
    """A server that requires alice's key."""
    with LocalServer(users={"alice": Path(f"{key_file}.pub").read_text()}) as server:
        yield server.uri


GUIDE = Path(__file__).parents[2] / "docs" / "command.md"


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)


class Left(BaseException):
    """Stands in for the end of the process."""


@pytest.fixture
def interruption(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interruption]:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    interruption = Interruption()
    interruption.handle()
    yield interruption
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def endless(server: LocalServer) -> None:
    @server.program("endless")
    def endless(context: ProgramContext) -> None:
        while True:
            context.stdout("more\n" * 10_000)


def toml(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def write(path: Path, *inputs: Any) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in inputs))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


class Counting:
    """A program that counts how often it runs with which argument; beyond ``free`` runs it waits for ``go``."""

    def __init__(self, server: LocalServer, free: int) -> None:
        self.completed: Counter[str] = Counter()
        self.go = threading.Event()
        self.stuck = threading.Event()
        self._free = threading.Semaphore(free)
        server.program("counting")(self)

    def __call__(self, context: ProgramContext) -> str:
        if not self.go.is_set() and not self._free.acquire(blocking=False):
            self.stuck.set()
            while not self.go.is_set():
                try:
                    context.receive(timeout=0.05)  # raises when the instance is terminated
                except TimeoutError:
                    pass
        self.completed[context.args[0]] += 1
        return context.args[0]


@pytest.fixture
def hello(home: Path) -> Path:
    path = home / "hello.wasm"
    path.write_bytes(HELLO)
    return path


@pytest.fixture
def waiter(server: LocalServer) -> threading.Event:
    """A program that prints a text without a line break, and then waits. The event is set when it has ended."""
    ended = threading.Event()

    @server.program("waiter")
    def waiter(context: ProgramContext) -> str:
        context.stdout("waiting... ")
        try:
            return context.receive()
        finally:
            ended.set()

    return ended


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


CTRL_C, CTRL_D = "\x03", "\x04"


@pytest.fixture
def chat(server: LocalServer) -> None:
    @server.program("chat")
    def chat(context: ProgramContext) -> str:
        context.stdout("your name? ")
        name = context.receive()
        context.send(f"Hello, {name}!")
        return context.receive()


def bash(command: CommandLine) -> pexpect.spawn:
    """Start a shell, and wait for its prompt."""
    (command.home / "inputrc").write_text("set enable-bracketed-paste off\nset bell-style none\n")
    command.environment.update(PS1="ready> ", INPUTRC=str(command.home / "inputrc"))
    shell = command.spawn_program("bash", ["--norc", "--noprofile", "-i"])
    shell.expect_exact("ready> ")
    return shell


@pytest.fixture
def homeless(run_here: RunHere, monkeypatch: pytest.MonkeyPatch) -> RunHere:
    """``run_here`` for a numeric user without HOME, as in a container: no home directory, no login name."""
    import pwd

    def getpwuid(uid: int) -> NoReturn:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    return run_here


def panel(text: str, title: str) -> list[str]:
    """Return the lines in a box of a help text."""
    found = re.search(rf"^╭─ {title} .*\n((?:│.*\n)+)", text, re.MULTILINE)
    return [line.strip("│ ") for line in found[1].splitlines()] if found else []
