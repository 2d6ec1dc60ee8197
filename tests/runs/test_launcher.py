"""Many launches in one write: which fail, and what becomes of those."""

from __future__ import annotations

from contextlib import suppress

import pytest

from pie_sync import LaunchError, PieClient, PieConnectionError, PieValueError
from pie_sync._runs.launch import Launch
from pie_sync._runs.launcher import Launcher, RecentLaunchers
from pie_sync._runs.program_reference import ProgramReference
from pie_sync._support.signal_safe_queue import SignalSafeQueue
from pie_sync._support.time_limits import TimeLimit
from pie_sync.testing import LocalServer


@pytest.fixture(params=["instance", "process"])
def client(request):
    with LocalServer(protocol=request.param) as server, PieClient(server.uri) as client:
        server.program("echo@0.1.0")(lambda context: "done")
        client.authenticate("alice")
        yield client


def launcher_of(client: PieClient, name: str = "echo@0.1.0") -> Launcher:
    return Launcher(client._manager, "map", ProgramReference(name, None), TimeLimit(20))


def test_all_are_sent_and_end(client):
    done: SignalSafeQueue[Launch] = SignalSafeQueue()
    launcher = launcher_of(client)
    launches = [Launch(launcher, TimeLimit(20), done) for _ in range(50)]
    assert launcher.send(launches, [[str(number)] for number in range(50)], TimeLimit(20)) == {}
    assert {done.get(20) for _ in launches} == set(launches)
    completed = [launch.completed([]) for launch in launches]
    assert {one.message for one in completed} == {"done"}
    assert len({one.id for one in completed}) == 50


def test_what_the_server_says_then_is_acknowledged_at_once_if_it_writes_with_delay(client):
    launcher = launcher_of(client)
    websocket = client._manager.connection.session._websocket
    assert not websocket.acknowledges_at_once
    launches = [Launch(launcher, TimeLimit(20)) for _ in range(2)]
    assert launcher.send(launches, [[], []], TimeLimit(20)) == {}
    assert websocket.acknowledges_at_once == (client.protocol == "instance")


def test_one_that_can_not_be_encoded_is_given_up_alone(client):
    done: SignalSafeQueue[Launch] = SignalSafeQueue()
    launcher = launcher_of(client)
    launches = [Launch(launcher, TimeLimit(20), done) for _ in range(3)]
    failed = launcher.send(launches, [["0"], {"a": object()}, ["2"]], TimeLimit(20))
    assert [*failed] == [launches[1]]
    assert isinstance(failed[launches[1]], TypeError)
    assert {done.get(20), done.get(20)} == {launches[0], launches[2]}
    assert client.stats().pending_requests == 0


def test_long_ones_among_others_are_sent_in_fragments_and_one_that_is_too_long_fails_alone(client):
    done: SignalSafeQueue[Launch] = SignalSafeQueue()
    launcher = launcher_of(client)
    launches = [Launch(launcher, TimeLimit(20), done) for _ in range(5)]
    args = [["0"], ["x" * 3_000_000], ["2"], ["x" * (64 * 1024 * 1024)], ["4"]]
    failed = launcher.send(launches, args, TimeLimit(60))
    assert [*failed] == [launches[3]]
    assert isinstance(failed[launches[3]], PieValueError)
    assert {done.get(20) for _ in range(4)} == {*launches} - {launches[3]}
    assert {launch.completed([]).message for launch in launches if launch not in failed} == {"done"}
    assert client.stats().pending_requests == 0


def test_without_a_connection_each_has_an_error_of_its_own(client):
    launcher = launcher_of(client)
    client.close()
    launches = [Launch(launcher, TimeLimit(20)) for _ in range(3)]
    failed = launcher.send(launches, [[]] * 3, TimeLimit(20))
    assert [*failed] == launches
    assert {type(error) for error in failed.values()} == {PieConnectionError}
    assert len({id(error) for error in failed.values()}) == 3


def test_another_connection_needs_another_one(client):
    launcher = launcher_of(client)
    assert launcher.is_current
    client.close()
    assert not launcher.is_current
    client.connect()
    client.authenticate("alice")
    assert not launcher.is_current
    assert launcher_of(client).is_current


def test_a_program_that_the_server_does_not_have():
    with LocalServer(protocol="process") as server, PieClient(server.uri) as client:
        client.authenticate("alice")
        with pytest.raises(LaunchError, match="is not installed"):
            Launcher(client._manager, "map", ProgramReference(None, "0" * 64), TimeLimit(20))


class TestRecentLaunchers:
    def test_the_same_again_while_the_connection_is_the_same(self, client):
        launchers = RecentLaunchers()
        assert launchers.get("echo@0.1.0") is None
        launcher = launcher_of(client)
        launchers.keep("echo@0.1.0", launcher)
        assert launchers.get("echo@0.1.0") is launcher
        assert launchers.get("other@0.1.0") is None
        client.close()
        assert launchers.get("echo@0.1.0") is None

    def test_only_what_the_server_knows_by_the_given_text(self, client):
        launchers = RecentLaunchers()
        for program in ("echo.wasm", b"echo@0.1.0", test_all_are_sent_and_end):
            launchers.keep(program, launcher_of(client))
            assert launchers.get(program) is None

    def test_not_more_and_more(self, client):
        launchers = RecentLaunchers()
        for number in range(100):
            launchers.keep(f"echo-{number}@0.1.0", launcher_of(client, f"echo-{number}@0.1.0"))
        assert len(launchers._launchers) <= 16
        assert launchers.get("echo-99@0.1.0") is not None

    def test_a_run_after_a_lost_connection(self):
        with LocalServer() as server, PieClient(server.uri, reconnect=True) as client:
            server.program("echo")(lambda context: context.args[0])
            client.authenticate("alice")
            for number in range(3):
                assert [client.run("echo", [word]).message for word in ("a", "b")] == ["a", "b"]
                server.drop_connections()
                while client.stats().reconnects == number:
                    with suppress(PieConnectionError):
                        client.ping(timeout=10)
