"""What both generations of the protocol write in the same way: ids and text."""

from __future__ import annotations

from pie_sync.testing import LocalServer
from tests.testing.raw import COMPLETED, RawClient

ATTACHED = (True, "Instance attached")


def test_an_id_may_be_written_in_another_way(client: RawClient, repeat: str) -> None:
    instance_id = client.launch(repeat, detached=True)
    assert client.attach(instance_id.upper().replace("-", "")) == ATTACHED


def test_text_that_has_no_utf8_is_replaced(server: LocalServer, client: RawClient) -> None:
    server.program("surrogate")(lambda ctx: "half: \ud800")
    assert list(client.events(client.launch("surrogate"))) == [(COMPLETED, "half: ?")]
