"""``list``, ``terminate``, ``ping`` and ``query``."""

from __future__ import annotations

import json

from pie_sync import Event, PieClient
from pie_sync.testing import LocalServer

from .conftest import CommandLine, RunHere


def test_the_list(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    assert run_here("list", "--uri", server.uri) == (0, "", "[no instances]\n")
    attached = client.launch_instance_from_registry("echo", ["a b", "\x1b[31mred"])
    detached = client.launch_instance_from_registry("echo", detached=True)
    result = run_here("list", "--uri", server.uri)
    assert result.code == 0
    head, *lines = result.stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "USER", "SECONDS", "PAGES", "ARGUMENTS"]
    rows = {line.split()[0]: line.split(maxsplit=5)[1:] for line in lines}
    assert rows[attached.id] == ["Attached", "alice", "0", "0", "'a b' '\\x1b[31mred'"]
    assert rows[detached.id] == ["Detached", "alice", "0", "0"]


def test_the_list_for_programs(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    assert json.loads(run_here("list", "--json", "--uri", server.uri).stdout) == []
    instance = client.launch_instance_from_registry("echo", ["x"] * 200)
    [info] = json.loads(run_here("list", "--json", "--uri", server.uri).stdout)
    assert info["id"] == instance.id
    assert info["arguments"] == ["x"] * 200
    assert (info["status"], info["username"], info["program"]) == ("Attached", "alice", None)


def test_terminate(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    first, second = (client.launch_instance_from_registry("echo") for _ in range(2))
    length = next(n for n in range(1, 37) if first.id[:n] != second.id[:n])
    result = run_here("terminate", first.id[:length].upper(), second.id, "--uri", server.uri)
    assert result == (0, "", f"[terminated {first.id}]\n[terminated {second.id}]\n")
    assert first.wait(5).event is second.wait(5).event is Event.Aborted


def test_terminate_with_a_mistake_ends_nothing(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    instances = [client.launch_instance_from_registry("echo") for _ in range(17)]  # two begin with the same digit
    starts = [instance.id[0] for instance in instances]
    shared = next(digit for digit in starts if starts.count(digit) > 1)
    for wrong, error in [
        ("nobody", "no instance whose id begins with 'nobody'"),
        (shared, "instances begin with"),
    ]:
        result = run_here("terminate", instances[0].id, wrong, "--uri", server.uri)
        assert result.code == 1
        assert error in result.stderr
    assert run_here("terminate", "", "--uri", server.uri).code == 1
    assert len(client.list_instances()) == 17


def test_ping(run_here: RunHere, server: LocalServer) -> None:
    result = run_here("ping", PIE_URI=server.uri)
    address, milliseconds, unit, *rest = result.stdout.split()
    assert (result.code, result.stderr) == (0, "")
    assert (address, unit, rest) == (server.uri + ":", "ms,", ["instance", "protocol"])
    assert float(milliseconds) < 5000


def test_query(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    assert json.loads(run_here("query", "model_status", "--uri", server.uri).stdout)
    assert run_here("query", "program_exists", "0" * 64, "--uri", server.uri).stdout == "false\n"
    result = run_here("query", "weather", "--uri", server.uri, "--timeout", "0.2")
    assert result.code == 1
    assert "never answer a subject that they don't know\ncure: --timeout SECONDS" in result.stderr


def test_a_query_that_the_server_refuses(run_here: RunHere) -> None:
    with LocalServer(protocol="process-0.5") as server:
        result = run_here("query", "weather", "--uri", server.uri)
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: the server can't tell: ")


def test_other_generations(pie: CommandLine) -> None:
    for protocol in ["process", "process-0.5"]:
        with LocalServer(protocol=protocol) as server:

            @server.program("greet@1.0.0")
            def greet(context):
                context.stdout("hi\n")
                return json.dumps(context.input) if context.input else None

            pie.environment["PIE_URI"] = server.uri
            assert pie.output("ping").endswith(" ms, process protocol\n")
            assert pie.output("run", "greet", "--", "--name", "Eve", "-n", "3") == 'hi\n{"name": "Eve", "n": 3}\n'
            assert pie.output("run", "greet") == "hi\n"  # its result is null
