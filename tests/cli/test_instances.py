"""``list`` and ``terminate``."""

from __future__ import annotations

import json

from pie_sync import Event, PieClient
from pie_sync.testing import LocalServer

from .conftest import CommandLine, RunHere, all_of


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


def test_the_list_fits_the_terminal(pie: CommandLine, client: PieClient) -> None:
    instance = client.launch_instance_from_registry("echo", ["long " * 100])
    terminal = pie.spawn("list")
    head, line = all_of(terminal).splitlines()
    assert head.split() == ["ID", "STATUS", "USER", "SECONDS", "PAGES", "ARGUMENTS"]
    assert line.startswith(f"{instance.id}  Attached  alice ")
    assert len(line) <= 120
