"""What a client is made with: mistakes are told by the constructor, before anything is sent."""

from __future__ import annotations

import io
import math

import pytest

from pie_sync import ParsedPrivateKey, PieClient, PieError, PieValueError
from pie_sync._connection.validation import is_confidential
from pie_sync.testing import EngineServer, LocalServer


@pytest.mark.parametrize(
    "uri",
    [
        "ws://host:port",
        "ws://host:99999",
        "ws://host:0",
        "ws://ho st",
        "ws://h/a\nb",
        "ws://a..b",
        f"ws://{'x' * 64}.org",
    ],
)
def test_a_uri_that_can_never_work(uri):
    with pytest.raises(ValueError, match="^server_uri "):
        PieClient(uri)


def test_a_uri_is_kept_as_it_was_given():
    assert PieClient("ws://bücher.example/a b").server_uri == "ws://bücher.example/a b"


@pytest.mark.parametrize(
    "uri", ["wss://host", "ws://127.0.0.1:8080", "ws://[::1]", "ws://LOCALHOST.", "ws://pie.localhost"]
)
def test_confidential(uri):
    assert is_confidential(uri)


@pytest.mark.parametrize(
    "uri", ["ws://host", "ws://10.0.0.1", "ws://127.1", "ws://0.0.0.0", "ws://localhost.example"]
)
def test_not_confidential(uri):
    assert not is_confidential(uri)


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "ä", "a\n", "Host", "UPGRADE", "Connection", "Sec-WebSocket-Key"]
)
def test_names_that_are_no_headers_or_the_handshakes_own(name):
    with pytest.raises(ValueError, match="header"):
        PieClient("ws://host", headers={name: "value"})


#: Values that can't be used, one for each argument of a public method that takes more than a choice of types.
BAD_VALUES = {
    "the address": lambda client, _: PieClient("http://host"),
    "a header": lambda client, _: PieClient("ws://h", headers={"a": "b\r\n"}),
    "a size": lambda client, _: PieClient("ws://h", max_blob_size=0),
    "a generation": lambda client, _: PieClient("ws://h", protocol="smoke"),
    "an identity": lambda client, _: PieClient("ws://h", identity=""),
    "a time limit": lambda client, _: client.ping(timeout=-1),
    "a hash": lambda client, _: client.launch_instance("invalid_hash"),
    "a hash to ask for": lambda client, _: client.program_exists("invalid_hash"),
    "a name": lambda client, _: client.launch_instance_from_registry(""),
    "a name that is a hash": lambda client, _: client.launch_instance_from_registry("ab" * 32),
    "a user": lambda client, _: client.authenticate("\ud800"),
    "an instance": lambda client, _: client.attach_instance("\ud800"),
    "an argument": lambda client, _: client.launch_instance_from_registry("echo", ["\ud800"]),
    "a parameter": lambda client, _: client.launch_instance_from_registry("echo", {"a-b": 1}),
    "a program": lambda client, _: client.run(""),
    "how many": lambda client, _: client.map("echo", [], concurrency=0),
    "a path": lambda client, _: client.upload_program("a\0b"),
    "a closed file": lambda client, _: client.upload_program(closed_file()),
    "a manifest": lambda client, _: client.upload_program(b"x", manifest="a = 1"),
    "a manifest's path": lambda client, _: client.upload_program(b"x", manifest="a\0b"),
    "a key's path": lambda client, _: ParsedPrivateKey.from_file("a\0b"),
    "a message": lambda _, instance: instance.send("\ud800"),
    "a time limit of an event": lambda _, instance: instance.recv(-1),
    "a time limit that is no number": lambda client, _: client.ping(timeout=math.nan),
    "a server's protocol": lambda *_: LocalServer(protocol="0.9"),
    "a server's users": lambda *_: LocalServer({"alice": "no key"}),
    "a server's port": lambda *_: LocalServer(port=99_999),
    "a server's delay": lambda *_: LocalServer().delay(-1),
    "what a server loses": lambda *_: LocalServer().lose(ends=-1),
    "a server's program": lambda *_: LocalServer().program("a/b/c"),
    "an engine's memory": lambda *_: EngineServer(memory="lots"),
    "an engine's time limit": lambda *_: EngineServer(timeout=0),
}


def closed_file() -> io.BytesIO:
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize("name", BAD_VALUES)
def test_every_mistake_in_a_value_is_both_errors(client, name):
    """``except PieError`` around a conversation catches it, and so does ``except ValueError``."""
    with PieClient(client.server_uri) as new:
        instance = client.launch_instance_from_registry("echo")
        with pytest.raises(PieError) as caught:
            BAD_VALUES[name](new if name == "a user" else client, instance)
    assert isinstance(caught.value, ValueError)
    assert client.ping() > 0, "the connection is unharmed"


def test_a_hash_where_a_name_is_expected_says_so(client):
    with pytest.raises(PieValueError, match="a program's hash, not its name.*launch_instance"):
        client.launch_instance_from_registry("AB" * 32)


def test_what_is_no_message_says_what_to_do(client):
    instance = client.launch_instance_from_registry("echo")
    with pytest.raises(TypeError, match=r"not dict: json.dumps\(message\)"):
        instance.send({"a": 1})
    with pytest.raises(TypeError, match=r"not bytes: bytes go through upload_blob\(\)"):
        instance.send(b"a")
    with pytest.raises(TypeError, match="message must be a str, not set$"):  # which json.dumps() does not take
        instance.send({1})
    with pytest.raises(TypeError, match=r"not a mapping: json.dumps\(input\)"):
        client.run("echo", input={"a": 1})


def test_a_wrong_time_limit_is_told_whether_or_not_something_is_there(client):
    instance = client.launch("talk")
    for timeout in (-1, True):
        with pytest.raises((ValueError, TypeError), match="timeout must"):
            instance.recv(timeout)
    assert instance.wait(10).event.name == "Completed"


def test_a_program_that_is_not_there_is_not_taken_for_a_text(client):
    for attempt in (client.run, client.launch, client.upload_program):
        with pytest.raises(FileNotFoundError, match=r"\[Errno 2\] No such file or directory: 'no-such.wasm'$"):
            attempt("no-such.wasm")


@pytest.mark.parametrize("text", ["hello", "x" * 5000])
def test_text_as_a_blob_is_a_path(client, text):
    instance = client.launch_instance_from_registry("echo")
    with pytest.raises(OSError, match=r"a str is a path here.*text.encode\(\)"):
        instance.upload_blob(text)
