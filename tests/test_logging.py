"""What the logs tell: little at INFO, the story of one request at DEBUG."""

from __future__ import annotations

import logging
import re

import pytest

from pie_sync import Event, LaunchError, PieClient, PieConnectionError, PieTimeoutError
from tests.programs import HELLO
from tests.scripted import scripted_server, wait_for_close


def story(caplog, method: str) -> list[str]:
    """All that was logged of the last request of a method, without its number."""
    texts = [record.getMessage() for record in caplog.records]
    number = re.match(r"request (\d+): ", next(text for text in reversed(texts) if f": {method}, " in text))[1]
    return [text.partition(": ")[2] for text in texts if text.startswith(f"request {number}: ")]


@pytest.fixture
def debug(caplog):
    caplog.set_level(logging.DEBUG, "pie_sync")
    return caplog


def test_a_healthy_session_says_nothing_at_info(server, private_key, caplog):
    caplog.set_level(logging.INFO, "pie_sync")
    with PieClient(server.uri) as client:
        client.authenticate("alice", private_key)
        instance = client.launch_instance(client.upload_program(HELLO), ["x"])
        assert instance.wait(timeout=10).event is Event.Completed
    ours = [record for record in caplog.records if not record.name.startswith("pie_sync.testing")]
    assert ours == []


def test_a_request_that_is_answered(client, debug):
    client.ping()
    begin, end = story(debug, "ping")
    assert re.fullmatch(r"ping, \d+ bytes", begin)
    assert end == "ping is answered by a 'response' message"


def test_a_request_that_is_refused(client, debug):
    with pytest.raises(LaunchError):
        client.launch_instance_from_registry("no-such-program")
    launch = "launch_instance_from_registry"
    assert story(debug, launch)[1:] == [f"{launch} is refused by a 'instance_launch_result' message"]


def test_an_upload(client, debug):
    program_hash = client.upload_program(HELLO)
    assert story(debug, "upload_program") == [
        f"upload_program, {len(HELLO)} bytes with the hash {program_hash}",
        "all bytes are sent",
        "upload_program is answered by a 'response' message",
    ]


def test_an_answer_that_comes_too_late(debug):
    def script(peer):
        peer.authenticate()
        late = peer.receive()
        peer.respond(peer.receive(), "Pong")
        peer.respond(late, "Pong")
        peer.respond(peer.receive(), "Pong")
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri) as client:
        client.authenticate("alice")
        with pytest.raises(PieTimeoutError):
            client.query("late", "", timeout=0.05)
        client.ping()
        client.ping()
    assert story(debug, "query")[1:] == [
        "query is not waited for any more",
        "ignored a 'response' message, which nobody waits for",
    ]


def test_a_request_whose_connection_is_lost(debug):
    def script(peer):
        peer.authenticate()
        peer.receive()
        peer.connection.close(1011, "out of order")

    with scripted_server(script) as uri, PieClient(uri) as client:
        client.authenticate("alice")
        with pytest.raises(PieConnectionError):
            client.ping()
    assert story(debug, "ping")[1:] == ["ping failed: the server closed the connection: 1011 out of order"]
    assert [(record.name, record.levelname) for record in debug.records if record.levelno > logging.DEBUG] == [
        ("pie_sync.connection", "INFO")
    ]


def test_an_instance_and_its_blobs(server, client, debug):
    @server.program("blob")
    def blob(context):
        context.send_blob(b"four")

    instance = client.launch_instance_from_registry("blob")
    instance.wait(timeout=10)
    texts = [record.getMessage() for record in debug.records]
    told = [text.partition(": ")[2] for text in texts if text.startswith(f"instance {instance.id}: ")]
    assert [re.sub("[0-9a-f]{64}", "HASH", text) for text in told] == [
        "attached",
        "blob HASH of 4 bytes",
        "Completed",
    ]
    assert {record.name for record in debug.records} >= {"pie_sync.protocol", "pie_sync.transfer"}


def test_connecting_and_closing(server, debug):
    with PieClient(server.uri):
        pass
    texts = [record.getMessage() for record in debug.records if record.name == "pie_sync.connection"]
    assert texts[:2] == [f"connecting to {server.uri}", f"connected to {server.uri}"]
    assert "sending a close frame with code 1000" in texts
