"""What docs/async.md says about ``pie-client`` 0.5.3 is so: the real client, and a server that makes trouble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from blake3 import blake3

from pie_sync.testing import LocalServer
from tests.scripted import Peer, scripted_server, wait_for_close
from tests.testing.official import run_official

# The first run builds the client's environment.
pytestmark = pytest.mark.timeout(400)

SCRIPT = Path(__file__).parent / "testing" / "official_0_5_3_in_trouble.py"


def ask(what: str, uri: str = "") -> Any:
    return run_official("0.5.3", SCRIPT, what, uri)


def agree(peer: Peer, result: str = "") -> None:
    """Answer the next request, which may be to authenticate."""
    request = msgpack.unpackb(peer.connection.recv(10))
    peer.send(type="response", corr_id=request["corr_id"], ok=True, result=result)


def process_event(peer: Peer, process: str, event: str, value: str) -> None:
    peer.send(type="process_event", process_id=process, event=event, value=value)


def test_a_lost_connection():
    def script(peer: Peer) -> None:
        agree(peer)
        agree(peer, "one")
        agree(peer, "two")
        process_event(peer, "one", "message", "still here")
        assert peer.receive()["type"] == "ping"
        peer.connection.socket.close()

    with scripted_server(script) as uri:
        seen = ask("lost", uri)
    closed = "WebSocket connection closed"
    assert seen.pop("before") == "still here"
    assert seen.pop("request") == f"ConnectionError: {closed}"
    assert seen.pop("recv") == f"(<Event.Error: 'error'>, '{closed}')"
    assert seen.pop("recv again") == "waits"
    assert seen.pop("result") == f"RuntimeError: {closed}"
    assert seen == {"next request": "Exception"}


def test_a_silent_server():
    with scripted_server(wait_for_close) as uri:
        assert ask("silent", uri) == {"authenticate": "waits"}


def test_servers_up_to_0_2():
    with LocalServer() as server:
        assert ask("silent", server.uri) == {"authenticate": "waits"}


@pytest.mark.parametrize("protocol", ["process", "process-0.5"])
def test_servers_since_0_3(protocol):
    with LocalServer(protocol=protocol) as server:
        assert ask("silent", server.uri) == {"authenticate": "None"}


def test_events_and_results():
    def file(peer: Peer, process: str, data: bytes, file_hash: str) -> None:
        chunk = {"chunk_index": 0, "total_chunks": 1, "chunk_data": data}
        peer.send(type="file", process_id=process, file_hash=file_hash, name="a.bin", **chunk)

    def script(peer: Peer) -> None:
        agree(peer)
        for process in ("one", "two"):
            file(peer, process, b"early", blake3(b"early").hexdigest())
            agree(peer, process)
            assert peer.receive()["type"] == "signal_process"  # from here on the client knows the process
            file(peer, process, b"wrong", "0" * 64)
            file(peer, process, b"right", blake3(b"right").hexdigest())
            for event in ("stdout", "stderr", "message"):
                process_event(peer, process, event, event)
            process_event(peer, process, "return", '{"text": "done"}')
        wait_for_close(peer)

    with scripted_server(script) as uri:
        seen = ask("events", uri)
    printed = [["Stdout", "stdout"], ["Stderr", "stderr"], ["Message", "message"]]
    assert seen == {
        "events": [["File", "b'right'"], *printed, ["Return", '{"text": "done"}']],
        "after the end": "waits",
        "result": {"text": "done"},
        "output": ["stdout", "message"],
    }


def test_what_the_methods_take():
    assert ask("api") == {
        "all async": True,
        "with a time limit": [],
        "with progress": [],
        "takes a key": False,
        "py.typed": False,
    }
