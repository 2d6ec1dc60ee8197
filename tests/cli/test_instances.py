"""``list`` and ``terminate``."""

from __future__ import annotations

import json
import re

import pytest

from pie_sync import Event, PieClient
from pie_sync.testing import LocalServer

from .conftest import COMMAND, CommandLine, RunHere, all_of, lines


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
    head, line, *more = all_of(terminal).splitlines()
    assert head.split() == ["ID", "STATUS", "USER", "SECONDS", "PAGES", "ARGUMENTS"]
    assert line.startswith(f"{instance.id}  Attached  alice ")
    assert max(map(len, [head, line, *more])) <= 120
    column = head.index("ARGUMENTS")
    assert {text[:column].strip() for text in more} == {""}
    words = " ".join(text[column:].strip() for text in [line, *more])
    assert words == "'" + "long " * 100 + "'", "the arguments wrap, and none is cut"


@pytest.mark.parametrize("columns", [20, 36, 60, 80])
def test_an_id_is_never_cut(pie: CommandLine, client: PieClient, columns: int) -> None:
    ids = {client.launch_instance_from_registry("echo", ["some", "more arguments"]).id for _ in range(3)}
    pie.environment["COLUMNS"] = str(columns)
    terminal = pie.spawn("list")
    assert set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", all_of(terminal))) == ids


ONCE = ["--prompt", "Once upon a time"]


def lines_of(pie: CommandLine, columns: int) -> list[str]:
    """Return the lines of the list in a terminal of this width."""
    terminal = pie.spawn_program(COMMAND[0], [*COMMAND[1:], "list"], columns)
    return [line.rstrip() for line in all_of(terminal).splitlines()]


def test_the_list_in_80_columns(pie: CommandLine, client: PieClient) -> None:
    """One row for each instance, and only its arguments wrap: the user, the same everywhere, is left out."""
    del pie.environment["COLUMNS"]
    instance = client.launch_instance_from_registry("echo", ONCE, detached=True)
    head, *rows = lines_of(pie, 80)
    assert head == f"{'ID':<36}  STATUS    SECONDS  PAGES  ARGUMENTS"
    assert re.match(rf"{instance.id}  Detached  \d+ +0      --prompt", rows[0])
    column = head.index("ARGUMENTS")
    assert {row[:column].strip() for row in rows[1:]} == {""}
    assert " ".join(row[column:] for row in rows) == "--prompt 'Once upon a time'"
    assert max(map(len, rows)) <= 80


@pytest.mark.parametrize("columns", [20, 40, 60])
def test_the_list_in_a_narrow_terminal(pie: CommandLine, client: PieClient, columns: int) -> None:
    """No table: each instance has lines of its own, whole, and the terminal wraps them."""
    del pie.environment["COLUMNS"]
    ids = [client.launch_instance_from_registry("echo", ONCE, detached=True).id for _ in range(2)]
    lines = lines_of(pie, columns)
    assert len(lines) == 6
    for begin in (0, 3):
        assert re.fullmatch(r"  Detached, alice, \d+ s, 0 pages", lines[begin + 1])
        assert lines[begin + 2] == "  --prompt 'Once upon a time'"
    assert {lines[0], lines[3]} == set(ids)


def test_an_id_with_an_ellipsis(run_here: RunHere, server: LocalServer, client: PieClient) -> None:
    """As people paste them from chats and logs, which shorten them at the end or in the middle."""
    for shorten in (
        lambda text: f"{text[:13]}…",
        lambda text: f"{text[:13]}...",
        lambda text: f"{text[:4]}…{text[-6:]}",
        lambda text: f"{text[:4]}...{text[-6:]}",
    ):
        instance, other = (client.launch_instance_from_registry("echo") for _ in range(2))
        assert run_here("terminate", shorten(instance.id), "--uri", server.uri).code == 0
        assert instance.wait(5).event is Event.Aborted
        error, _ = lines(run_here("terminate", f"{other.id[:8]}…nothing", "--uri", server.uri))
        assert error == f"there is no instance whose id begins with '{other.id[:8]}' and ends with 'nothing'"
        other.terminate()
