"""One instance from its launch to its end, in one call."""

import signal
import threading
import time

import pytest

from pie_sync import (
    AuthenticationError,
    Event,
    InstanceFailed,
    LaunchError,
    PieClient,
    PieConnectionError,
    PieError,
    PieTimeoutError,
)
from tests.programs import HELLO
from tests.scripted import scripted_server, wait_for_close


@pytest.fixture
def ended(server):
    """A program that begins to talk, and is never done; the event that tells of its end."""
    ended = threading.Event()

    @server.program("endless")
    def endless(context):
        try:
            context.stdout("so far")
            context.send("begun")
            while True:
                context.receive()
        finally:
            ended.set()

    return ended


# --- what comes back --------------------------------------------------------------------------------------


def test_everything_that_an_instance_sends(client):
    completed = client.run("talk", ["a", "b"])
    assert completed.event is Event.Completed
    assert completed.message == "a b"
    assert completed.stdout == "out 1\nout 2\n"
    assert completed.stderr == "err 1\n"
    assert completed.messages == ("message 1", "message 2")
    assert completed.blobs == (b"blob 1",)


def test_a_mapping_as_arguments(client):
    assert client.run("talk", {"max_tokens": 5}).message == "--max-tokens 5"


def test_every_event_is_told_in_the_calling_thread(client):
    told = []
    completed = client.run(
        "talk",
        ["a"],
        on_event=lambda event, data: told.append((event, data, threading.current_thread())),
    )
    assert [(event, data) for event, data, _ in told] == [
        (Event.Stdout, "out 1\n"),
        (Event.Stderr, "err 1\n"),
        (Event.Message, "message 1"),
        (Event.Blob, b"blob 1"),
        (Event.Stdout, "out 2\n"),
        (Event.Message, "message 2"),
        (Event.Completed, "a"),
    ]
    assert {thread for _, _, thread in told} == {threading.current_thread()}
    assert completed.messages == ("message 1", "message 2")


def test_failure(client):
    with pytest.raises(InstanceFailed, match="the oven is cold") as caught:
        client.run("fail")
    assert caught.value.completed.event is Event.Exception
    completed = client.run("fail", check=False)
    assert completed == caught.value.completed


# --- mistakes -------------------------------------------------------------------------------------------


def test_an_unknown_program(client):
    with pytest.raises(LaunchError, match="run failed"):
        client.run("nobody-wrote-this")


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        ((HELLO,), {}, "bytes go through upload_program"),
        ((None,), {}, "program must be"),
        (("talk", "a"), {}, "did you mean"),
        (("talk",), {"input": 5}, "input must be"),
        (("talk",), {"timeout": "5"}, "timeout must be"),
    ],
)
def test_wrong_types(client, arguments, options, error):
    with pytest.raises(TypeError, match=error):
        client.run(*arguments, **options)


def test_an_empty_name(client):
    with pytest.raises(ValueError, match="empty"):
        client.run("")


def test_not_authenticated(server):
    with PieClient(server.uri) as stranger, pytest.raises(AuthenticationError, match="authenticate first"):
        stranger.run("talk")


# --- input ------------------------------------------------------------------------------------------------


def test_one_message(client):
    assert client.run("echo", input="stop").message == "stopped"


def test_several_messages(client):
    completed = client.run("echo", input=(text for text in ["one", "two", "stop"]))
    assert completed.messages == ("one", "two")


def test_a_blob(client):
    blob = bytes(range(256)) * 3000
    assert client.run("blob-echo", input=blob).blobs == (blob,)
    assert client.run("blob-echo", input=[memoryview(blob)], timeout=20).blobs == (blob,)


def test_events_are_told_between_inputs(client):
    told = threading.Event()

    def dialogue():
        yield "one"
        for _ in range(1000):  # events are looked for after each message
            yield "more"
            # This is the thread that events are told in: it gives the server a moment, rather than waits for them.
            time.sleep(0.01)
            if told.is_set():
                break
        assert told.is_set()
        yield "stop"

    client.run("echo", input=dialogue(), on_event=lambda event, data: told.set())


def test_what_nobody_reads_any_more_is_not_sent(client):
    def endless():
        while True:
            yield "stop"

    assert client.run("echo", input=endless(), timeout=20).message == "stopped"


def test_input_of_a_wrong_type_ends_the_instance(client, ended):
    with pytest.raises(TypeError, match="input must consist of"):
        client.run("endless", input=["one", 2])
    assert ended.wait(10)


# --- when it takes too long -------------------------------------------------------------------------------


def test_timeout_terminates(client, ended):
    with pytest.raises(PieTimeoutError, match=r"has not ended within 0\.2 s") as caught:
        client.run("endless", ["5"], timeout=0.2)
    assert ended.wait(10)
    assert (caught.value.input, caught.value.ok) == (["5"], False)
    completed = caught.value.completed
    assert completed.event is Event.Aborted
    assert completed.stdout == "so far"
    assert completed.messages == ("begun",)


def test_timeout_of_an_instance_that_never_stops_talking(server, client):
    @server.program("chatter")
    def chatter(context):
        while True:
            context.send("and another thing")

    with pytest.raises(PieTimeoutError) as caught:
        client.run("chatter", timeout=1.0)  # launching is part of it, and must be done before
    assert caught.value.completed.event is Event.Aborted


def test_timeout_while_sending(client, ended):
    def endless():
        while True:
            yield "more"

    with pytest.raises(PieTimeoutError):
        client.run("endless", input=endless(), timeout=0.3)
    assert ended.wait(10)


def test_a_launch_that_is_answered_too_late_is_terminated():
    terminated = []

    def script(peer):
        peer.authenticate()
        launch = peer.receive()
        peer.respond(peer.receive())  # a ping, which the client sends when its time is over
        peer.send(type="instance_launch_result", corr_id=launch["corr_id"], successful=True, message="late")
        request = peer.receive()
        terminated.append((request["type"], request["instance_id"]))
        peer.respond(request)
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance") as client:
        client.authenticate("alice")
        pings = threading.Timer(0.3, client.ping)
        pings.start()
        with pytest.raises(PieTimeoutError, match=r"no answer to the launch from the server within 0\.1 s"):
            client.run("any", timeout=0.1)
        pings.join()
    assert terminated == [("terminate_instance", "late")]


def test_a_server_that_never_answers_delays_the_error_only_so_long():
    def script(peer):
        peer.authenticate()
        wait_for_close(peer)

    with scripted_server(script) as uri, PieClient(uri, protocol="instance") as client:
        client.authenticate("alice")
        with pytest.raises(PieTimeoutError) as caught:
            client.run("any", timeout=0.1)
        assert caught.value.completed is None


# --- when it is stopped -----------------------------------------------------------------------------------


def test_ctrl_c_terminates(client, ended):
    def interrupt(event, data):
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        client.run("endless", on_event=interrupt)
    assert ended.wait(10)
    assert client.ping() > 0


def test_ctrl_c_while_waiting(client, ended):
    # To the main thread, as a terminal does: it's waiting.
    interrupt = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    interrupt.start()
    with pytest.raises(KeyboardInterrupt):
        client.run("endless")
    interrupt.join()
    assert ended.wait(10)


def test_what_on_event_raises_terminates(client, ended):
    def refuse(event, data):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        client.run("endless", on_event=refuse)
    assert ended.wait(10)


def test_a_lost_connection(server, client, ended):
    with pytest.raises(PieConnectionError) as caught:
        client.run("endless", on_event=lambda event, data: server.drop_connections())
    assert not isinstance(caught.value, PieError)
