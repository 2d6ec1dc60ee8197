"""Instances by the first characters of their ids."""

from __future__ import annotations

from pie_sync import PieClient
from pie_sync.testing import LocalServer

from .conftest import RunHere


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
