"""Instances by their ids, or by the first characters of them."""

from __future__ import annotations

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer
from tests.old_process_server import nothing, old_process_server
from tests.scripted import Peer, scripted_server, wait_for_close

from .conftest import RunHere, lines

WHOLE = "5b8d7e98-432a-41a0-891a-fa287c6e56df"


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


def test_a_whole_id_needs_no_list(run_here: RunHere) -> None:
    """Pie 0.2.0 lists 50 instances only."""
    asked = []

    def script(peer: Peer) -> None:
        peer.authenticate()
        request = peer.receive()
        asked.append((request["type"], request["instance_id"]))
        if request["type"] == "terminate_instance":
            peer.respond(request, "Instance terminated")
        else:
            peer.send(
                type="instance_attach_result",
                corr_id=request["corr_id"],
                successful=True,
                message="Instance attached",
            )
            peer.event(1, "done", WHOLE)
        wait_for_close(peer)

    with scripted_server(script) as uri:
        terminated = run_here("terminate", WHOLE.upper(), "--uri", uri)
        attached = run_here("attach", WHOLE, "--uri", uri)
    assert terminated == (0, "", f"[terminated {WHOLE}]\n")
    assert (attached.code, attached.stdout) == (0, "done\n")
    assert asked == [("terminate_instance", WHOLE), ("attach_instance", WHOLE)]


@pytest.mark.parametrize("command", ["attach", "terminate"])
def test_a_whole_id_that_the_process_protocol_refuses(run_here: RunHere, command: str) -> None:
    with old_process_server(nothing) as server:
        result = run_here(command, WHOLE, "--uri", server.uri)
    assert result.code == 1
    assert "Process not found" in result.stderr
    assert "list_processes" not in [message["type"] for message in server.requests]


@pytest.mark.parametrize("given", ["…6071", "..."])
def test_an_id_without_its_beginning(run_here: RunHere, server: LocalServer, given: str) -> None:
    error, _ = lines(run_here("attach", given, "--uri", server.uri))
    assert error.endswith("lacks the beginning of an id")
