"""PieClient(reconnect=True): connections are lost, and iteration goes on."""

from __future__ import annotations

import gc
import json
import socket
import threading
import time

import pytest
from websockets.frames import Frame, Opcode

from pie_sync import AttachError, Event, PieClient, PieConnectionError, PieTimeoutError
from pie_sync._connection import reconnection
from pie_sync._connection.manager import ConnectionManager
from pie_sync._session.session import State
from pie_sync._transport.frames import FrameReader
from pie_sync.testing import LocalServer, ProgramContext
from tests.faults.raw_server import RawPeer, raw_server
from tests.old_process_server import nothing, old_process_server
from tests.programs import add_programs


def count(context: ProgramContext) -> str:
    """Send the numbers up to the first argument, one for each message "go" of so many."""
    total, step = map(int, context.args)
    for number in range(total):
        if number % step == 0:
            context.receive()
        context.send(str(number))
    return "counted"


@pytest.fixture
def server(server):
    server.program("count")(count)
    return server


@pytest.fixture
def client(server):
    with PieClient(server.uri, reconnect=True, reconnect_timeout=20) as client:
        client.authenticate("alice")
        yield client


def drop_connections(server, client) -> None:
    """Break the connection and wait until there is another: what is sent in between would be lost."""
    server.drop_connections()
    wait_for_another_connection(client)


def wait_for_another_connection(client) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            client.ping()
        except PieConnectionError:
            assert time.monotonic() < deadline  # that ping was on its way
        else:
            return


def test_iteration_goes_on_and_nothing_is_lost_or_comes_twice(server, client):
    total, step = 2000, 100
    instance = client.launch_instance_from_registry("count", [str(total), str(step)])
    received = []
    instance.send("go")
    for event, data in instance.events(timeout=20):
        if event is Event.Message:
            received.append(int(data))
            if len(received) % step == 0 and len(received) < total:
                if len(received) % (3 * step) == 0:
                    drop_connections(server, client)
                instance.send("go")
        else:
            assert (event, data) == (Event.Completed, "counted")
    assert received == list(range(total))
    assert instance.finished


def test_in_the_middle_of_a_stream(server, client):
    total = 20_000

    @server.program("print")
    def print_numbers(context):
        for number in range(total):
            context.stdout(f"{number}\n")

    instance = client.launch_instance_from_registry("print")
    received, drop_at = [], [total // 4, total // 2]
    for event, data in instance.events(timeout=20):
        if event is Event.Stdout:
            received += map(int, data.split())
            if drop_at and received[-1] >= drop_at[0]:
                del drop_at[0]
                server.drop_connections()
    # What was on its way at that moment may be lost with the connection: the server had it no longer.
    assert received == sorted(set(received)), "in order, and none twice"
    assert received[-1] == total - 1
    assert instance.finished


def test_many_instances_are_all_attached_again(server, client):
    instances = [client.launch_instance_from_registry("echo") for _ in range(20)]
    drop_connections(server, client)
    for number, instance in enumerate(instances):
        instance.send(str(number))
    for number, instance in enumerate(instances):
        assert instance.recv(timeout=20) == (Event.Message, str(number))
        assert "attached" in repr(instance)
        instance.terminate()
        assert instance.recv(timeout=20)[0] is Event.Aborted


def test_requests_in_flight_fail_and_new_ones_wait(server, client):
    outcome = []

    def ask():
        try:
            client.query("a subject that is never answered", "", timeout=20)
        except PieConnectionError as error:
            outcome.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert client.ping() > 0
    server.drop_connections()
    thread.join(20)
    assert len(outcome) == 1
    assert client.ping() > 0
    assert not client.closed


def test_waiting_consumers_notice_nothing(server, client):
    instance = client.launch_instance_from_registry("echo")
    received = []
    thread = threading.Thread(target=lambda: received.append(instance.recv(timeout=20)))
    thread.start()
    drop_connections(server, client)
    instance.send("still here")
    thread.join(20)
    assert received == [(Event.Message, "still here")]


def test_authenticates_as_before(key_file, private_key):
    with LocalServer(users={"alice": key_file.with_suffix(".pub").read_text()}) as server:
        add_programs(server)
        with PieClient(server.uri, reconnect=True) as client:
            client.authenticate("alice", private_key)
            for _ in range(3):
                drop_connections(server, client)
                assert client.list_instances() == []


def test_a_restarted_server_is_survived_and_its_instances_are_told_to_be_gone():
    port = 0
    client = instance = None
    for _ in range(5):
        with LocalServer(port=port) as server:
            add_programs(server)
            port = server.port
            if client is None:
                client = PieClient(server.uri, reconnect=True)
                client.connect()
                client.authenticate("alice")
            if instance is not None:
                with pytest.raises(PieConnectionError, match=f"instance {instance.id} did not survive it"):
                    instance.recv(timeout=20)
            assert client.ping() > 0
            instance = client.launch_instance_from_registry("echo")
    client.close()


def test_gives_up_after_reconnect_timeout():
    with LocalServer() as server:
        add_programs(server)
        client = PieClient(server.uri, reconnect=True, reconnect_timeout=0.5)
        client.connect()
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
    begin = time.monotonic()
    with pytest.raises(PieConnectionError, match=r"not reconnected within 0\.5 s"):
        instance.recv(timeout=20)
    assert time.monotonic() - begin < 10
    with pytest.raises(PieConnectionError):
        client.ping()
    assert client.closed
    client.close()


def test_a_new_request_waits_no_longer_than_its_time_limit():
    with LocalServer() as server:
        client = PieClient(server.uri, reconnect=True, reconnect_timeout=30)
        client.connect()
        client.authenticate("alice")
        assert client.ping() > 0
    begin = time.monotonic()
    while True:
        try:
            client.ping(timeout=0.3)
        except PieConnectionError:
            continue  # it was in flight when the connection broke
        except PieTimeoutError as error:
            assert "not restored within 0.3 s" in str(error)
            break
    assert time.monotonic() - begin < 10
    client.close()


def test_an_attempt_that_fails_half_way_ends_no_instance(server, client, monkeypatch):
    instances = [client.launch_instance_from_registry("echo") for _ in range(3)]
    attach = reconnection.attach
    attempts = []

    def fail_once(session, instance_id, limit, events):
        attempts.append(instance_id)
        if len(attempts) == 2:  # the first instance is attached by then
            raise PieTimeoutError("no answer")
        attach(session, instance_id, limit, events)

    monkeypatch.setattr(reconnection, "attach", fail_once)
    drop_connections(server, client)
    for instance in instances:
        instance.send("hello")
        assert instance.recv(timeout=10) == (Event.Message, "hello")
    assert len(attempts) == 5


@pytest.fixture
def no_hurry(monkeypatch):
    """The first attempt to reconnect comes late enough for a test to do something before."""
    monkeypatch.setattr("pie_sync._connection.reconnection._FIRST_DELAY", 1.0)


def test_an_instance_that_somebody_else_has_taken_over(server, monkeypatch, no_hurry):
    monkeypatch.setattr("pie_sync._connection.reconnection._PATIENCE", 0.3)
    patient = PieClient(server.uri, reconnect=True, reconnect_timeout=None)
    with patient as client, PieClient(server.uri) as other:
        client.authenticate("alice")
        other.authenticate("alice")
        mine, taken = (client.launch_instance_from_registry("echo") for _ in range(2))
        server.drop_connections()
        with pytest.raises(PieConnectionError):
            other.ping()
        other.connect()
        other.authenticate("alice")
        other.attach_instance(taken.id)
        wait_for_another_connection(client)
        with pytest.raises(PieConnectionError, match="already attached"):
            taken.recv(timeout=10)
        mine.send("hello")
        assert mine.recv(timeout=10) == (Event.Message, "hello")


def test_an_instance_that_is_dropped_meanwhile_is_not_attached_again(server, client, no_hurry):
    instance = client.launch_instance_from_registry("echo")
    kept = client.launch_instance_from_registry("echo")
    server.drop_connections()
    with pytest.raises((PieTimeoutError, PieConnectionError)):
        client.ping(timeout=0.01)
    del instance
    gc.collect()
    wait_for_another_connection(client)
    assert list(client.stats().events_queued) == [kept.id]


def test_a_server_that_lets_the_user_in_no_more(no_hurry):
    before = set(threading.enumerate())
    with LocalServer() as server:
        client = PieClient(server.uri, reconnect=True)
        client.connect()
        client.authenticate("alice")
        port = server.port
    with LocalServer(port=port, users={"bob": []}):
        with pytest.raises(PieConnectionError):
            client.ping()
        assert client.closed
        for thread in set(threading.enumerate()) - before:
            if "reader" in thread.name:
                thread.join(10)
                assert not thread.is_alive(), "a connection that nobody knows of"


def test_close_while_reconnecting_is_prompt():
    with LocalServer() as server:
        add_programs(server)
        client = PieClient(server.uri, reconnect=True)
        client.connect()
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
    with pytest.raises(PieTimeoutError):
        instance.recv(timeout=0.2)
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 2
    with pytest.raises(PieConnectionError, match="the client was closed"):
        instance.recv(timeout=10)


def receive_in_thread(instance, outcome: list) -> threading.Thread:
    """Start a thread that receives one event from an instance, or the error instead."""

    def receive():
        try:
            outcome.append(instance.recv())
        except PieConnectionError as error:
            outcome.append(error)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    return thread


def test_close_while_the_lost_connection_lingers():
    """The server has said good-bye, and takes up to a second to end the TCP connection."""
    said_good_bye = threading.Event()

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        peer.launch()
        peer.socket.sendall(Frame(Opcode.CLOSE, b"\x03\xe9").serialize(mask=False))
        assert peer.socket.recv(100)[0] == 0x88  # the client's own close frame
        said_good_bye.set()
        peer.stopped.wait(30)

    with raw_server(serve) as uri, PieClient(uri, protocol="instance", reconnect=True) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("x")
        outcome: list = []
        thread = receive_in_thread(instance, outcome)
        assert said_good_bye.wait(10)
        session = client._manager.connection.session
        while session.state is State.OPEN:
            session.wait_until_closed(0.01)
        assert session.state is State.LOST
        client.close()
        thread.join(5)
        assert not thread.is_alive()
        assert "the client was closed" in str(outcome[0])


def test_close_when_another_session_has_the_instances_and_is_not_adopted_yet(server, client, monkeypatch):
    """The session that was to replace the lost one is lost as well, and nobody wants it any more."""
    attached = threading.Event()
    adopt = ConnectionManager.adopt

    def adopt_later(manager, lost, new):
        attached.set()
        while new.session.error is None:
            new.session.wait_until_closed(0.01)
        return adopt(manager, lost, new)

    monkeypatch.setattr(ConnectionManager, "adopt", adopt_later)
    instance = client.launch_instance_from_registry("echo")
    outcome: list = []
    thread = receive_in_thread(instance, outcome)
    server.drop_connections()
    assert attached.wait(10)
    client.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "the client was closed" in str(outcome[0])


def test_an_unclosed_client_is_still_collected(server):
    client = PieClient(server.uri, reconnect=True)
    client.connect()
    with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
        del client
        gc.collect()


def test_an_unclosed_client_is_collected_while_it_reconnects():
    before = set(threading.enumerate())
    with LocalServer() as server:
        client = PieClient(server.uri, reconnect=True, reconnect_timeout=None)
        client.connect()
        client.authenticate("alice")
        [reader] = [thread for thread in set(threading.enumerate()) - before if "reader" in thread.name]
    # A request that is on its way when the connection is lost fails with it: begin when that is noticed.
    session = client._manager.connection.session
    while session.state is State.OPEN:
        session.wait_until_closed(0.01)
    with pytest.raises(PieTimeoutError, match="not restored"):
        client.ping(timeout=0.2)
    with pytest.warns(ResourceWarning, match="unclosed <PieClient"):
        del client
        gc.collect()
    reader.join(20)
    assert not reader.is_alive(), "it would try for ever, for nobody"


def test_without_it_nothing_is_made_again(server):
    with PieClient(server.uri) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        server.drop_connections()
        with pytest.raises(PieConnectionError):
            instance.recv(timeout=20)
        assert client.closed


def test_a_new_session_that_is_lost_before_it_is_adopted_is_replaced_as_well(server, client, monkeypatch):
    instance = client.launch_instance_from_registry("echo")
    adopt, lost = ConnectionManager.adopt, []

    def adopt_later(self, old, new):
        if not lost:
            lost.append(new.session)
            new.session.endpoint.abort()
            new.session.wait_until_closed(20)
        return adopt(self, old, new)

    monkeypatch.setattr(ConnectionManager, "adopt", adopt_later)
    drop_connections(server, client)
    assert lost[0].state is State.CLOSED
    instance.send("hello")
    assert instance.recv(timeout=10) == (Event.Message, "hello")
    assert client.stats().reconnects == 1


def test_a_defect_while_reconnecting_is_told(server, client, monkeypatch):
    instance = client.launch_instance_from_registry("echo")

    def fail(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr(reconnection, "attach", fail)
    server.drop_connections()
    with pytest.raises(PieConnectionError, match="reconnecting failed: RuntimeError"):
        instance.recv(timeout=20)
    with pytest.raises(PieConnectionError):
        client.ping()
    assert client.closed


def test_close_while_instances_are_attached_again(server, client, monkeypatch):
    instance = client.launch_instance_from_registry("echo")
    asked = threading.Event()

    def refuse(*_):
        asked.set()
        raise AttachError("attach_instance", "Instance already attached")

    monkeypatch.setattr(reconnection, "attach", refuse)
    server.drop_connections()
    assert asked.wait(20)
    begin = time.monotonic()
    client.close()
    assert time.monotonic() - begin < 2
    with pytest.raises(PieConnectionError, match="the client was closed"):
        instance.recv(timeout=20)


class TestOn0_3And0_4:
    """Those servers leave instances bound to the lost connection: listed, terminable, but never attached again."""

    @pytest.fixture
    def listed(self):
        """The ids of the instances that the server has."""
        return ["still-there", "ended"]

    @pytest.fixture
    def server(self, listed):
        launched = iter(["still-there", "ended"])

        def answer(message):
            kind = message["type"]
            if kind == "launch_process":
                return (True, next(launched))
            if kind == "list_processes":
                return (True, json.dumps([{"id": instance_id, "input": "{}"} for instance_id in listed]))
            if kind == "terminate_process":
                known = message["process_id"] in listed
                return (known, "Process terminated" if known else "Process not found")
            return nothing(message)

        with old_process_server(answer) as server:
            yield server

    def test_each_instance_is_told_what_became_of_it(self, server, listed):
        with PieClient(server.uri, reconnect=True, reconnect_timeout=20) as client:
            client.authenticate("alice")
            running = client.launch_instance_from_registry("hello@1.0.0")
            ended = client.launch_instance_from_registry("hello@1.0.0")
            listed.remove("ended")
            server.cut()
            with pytest.raises(
                PieConnectionError, match="instance still-there can't be attached to any more"
            ) as end:
                running.recv(timeout=20)
            assert "Pie 0.3 and 0.4" in str(end.value)
            assert "client.terminate_instance('still-there') ends it" in str(end.value)
            assert "survive" not in str(end.value)
            assert "0.5" not in str(end.value)
            with pytest.raises(PieConnectionError, match="instance ended did not survive it") as end:
                ended.recv(timeout=20)
            assert "it has ended" in str(end.value)
            assert "0.5" not in str(end.value)
            client.terminate_instance("still-there")
            assert not client.closed
        asked = [message["type"] for message in server.requests]
        assert asked.count("list_processes") == 1


def test_the_server_may_take_the_lost_connection_for_alive_as_long_as_it_is_tried():
    """On a vanished network nobody tells the server. The error says which instance, and what was tried."""
    attaches = []

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        while True:
            request = peer.receive()
            if request["type"].startswith("launch_instance"):
                peer.send(
                    type="instance_launch_result",
                    corr_id=request["corr_id"],
                    successful=True,
                    message="instance-1",
                )
                return peer.socket.shutdown(socket.SHUT_RDWR)
            if request["type"] == "attach_instance":
                attaches.append(time.monotonic())
                peer.send(
                    type="instance_attach_result",
                    corr_id=request["corr_id"],
                    successful=False,
                    message="Instance already attached",
                )

    with raw_server(serve) as uri, PieClient(uri, reconnect=True, reconnect_timeout=1.0) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        with pytest.raises(PieConnectionError, match="instance instance-1 could not be attached to within") as end:
            instance.recv(timeout=30)
        assert "survive" not in str(end.value)
        assert "0.5" not in str(end.value)
        assert len(attaches) > 2
        assert attaches[-1] - attaches[0] > 0.5


def test_a_restart_of_a_server_up_to_0_2_is_told_without_another_generation():
    with pytest.raises(PieConnectionError, match="did not survive it: Instance not found") as end:
        port = 0
        for _ in range(2):
            with LocalServer(port=port) as server:
                add_programs(server)
                if not port:
                    port = int(server.uri.rsplit(":", 1)[1])
                    client = PieClient(server.uri, reconnect=True, reconnect_timeout=20)
                    client.connect()
                    client.authenticate("alice")
                    instance = client.launch_instance_from_registry("echo")
                else:
                    try:
                        instance.recv(timeout=20)
                    finally:
                        client.close()
    assert "0.5" not in str(end.value)


def test_lost_sessions_keep_no_memory_until_they_are_collected(server, client):
    """They are in cycles, and the garbage collector may come after many reconnections."""
    gc.collect()
    gc.disable()
    try:
        before = {id(one) for one in gc.get_objects() if type(one) is FrameReader}
        for _ in range(5):
            drop_connections(server, client)
        readers = [one for one in gc.get_objects() if type(one) is FrameReader and id(one) not in before]
        assert len(readers) == 5
        assert sum(len(reader._buffer) > 0 for reader in readers) == 1
    finally:
        gc.enable()
