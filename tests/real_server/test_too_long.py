"""An event that is too long for pie-server 0.5.2: a server of its own, for it cuts off all clients."""

from __future__ import annotations

import pytest

from pie_sync import Event, PieClient, PieConnectionError

from . import harness, inferlets


@pytest.mark.usefixtures("real_server")  # which says, if need be, why there is none
def test_nobody_waits_for_ever():
    with harness.RealServer() as server, PieClient(server.uri) as client, PieClient(server.uri) as other:
        inferlets.install(client)
        bystander = other.launch_instance_from_registry("talk")
        assert bystander.recv(60) == (Event.Message, "ready")
        instance = client.launch_instance_from_registry("many", {"count": 1, "size": 9 * 1024 * 1024})
        for waiting in (instance, bystander):
            with pytest.raises(PieConnectionError, match="stream aborted.*8 MiB"):
                waiting.wait(60)
        assert client.closed
