"""The instances of a server: who may see them, and that none gets in another's way."""

from __future__ import annotations

import time
import uuid

from pie_sync import Event
from pie_sync.testing import LocalServer
from pie_sync.testing._programs.instance import Launch
from pie_sync.testing._programs.python_program import PythonProgram
from pie_sync.testing._server.core import Core
from pie_sync.testing._server.users import Users
from tests.testing.conftest import Connect
from tests.testing.raw import ABORTED, COMPLETED, RawClient

UNKNOWN_ID = str(uuid.UUID(int=5))
ATTACHED = (True, "Instance attached")


def test_terminating_a_detached_instance_forgets_it(client: RawClient, repeat: str) -> None:
    instance_id = client.launch(repeat, detached=True)
    assert client.terminate(instance_id)[0]
    assert client.statuses() == {}
    assert client.attach(instance_id) == (False, "Instance not found")


def test_users_do_not_see_each_others_instances_but_may_attach_and_terminate(
    connect: Connect, repeat: str
) -> None:
    alice, bob = connect("alice"), connect("bob")
    instance_id = alice.launch(repeat, detached=True)
    assert bob.statuses() == {}
    assert bob.attach(instance_id) == (True, "Instance attached")
    assert alice.statuses() == {instance_id: "Attached"}
    assert alice.terminate(instance_id)[0]
    assert list(bob.events(instance_id)) == [(ABORTED, "Signal termination")]
    other = alice.launch(repeat)
    assert bob.terminate(other)[0]
    assert list(alice.events(other)) == [(ABORTED, "Signal termination")]


def test_signals_of_others_are_ignored(connect: Connect, repeat: str) -> None:
    alice, again, bob = connect("alice"), connect("alice"), connect("bob")
    instance_id = alice.launch(repeat)
    for stranger in (again, bob):
        stranger.signal(instance_id, "done")
        stranger.signal(UNKNOWN_ID, "done")
        stranger.signal("nonsense", "done")
        stranger.assert_unanswered()
    alice.signal(instance_id, "mine")
    assert alice.receive()["message"] == "mine"


def test_a_signal_to_a_detached_instance_is_ignored(client: RawClient, repeat: str) -> None:
    instance_id = client.launch(repeat, detached=True)
    client.signal(instance_id, "lost")
    assert client.attach(instance_id) == ATTACHED
    client.signal(instance_id, "done")
    assert list(client.events(instance_id)) == [(COMPLETED, "bye")]


def test_many_short_instances_on_one_connection(server: LocalServer, client: RawClient) -> None:
    server.program("answer")(lambda ctx: ctx.args[0])
    for number in range(500):
        client.send(
            "launch_instance_from_registry",
            corr_id=number + 1000,
            inferlet="answer",
            arguments=[str(number)],
            detached=False,
        )
    ended = [m["message"] for m in (client.receive() for _ in range(1000)) if m["type"] == "instance_event"]
    assert sorted(ended, key=int) == [str(number) for number in range(500)]


def test_a_launch_after_the_end_runs_out_of_resources() -> None:
    core = Core(Users(None, None), memory_limit=0)
    assert core.close(time.monotonic())
    ran: list[object] = []
    launch = Launch(PythonProgram(ran.append), "tool", "tool", [], "alice")
    announced: list[str] = []
    instance = core.launch(launch, None, announced.append)
    assert instance.status == "Finished"
    assert announced == [instance.id]
    (record,) = core.records.snapshot()
    assert (record.event, record.message) == (Event.OutOfResources, "the thread pool is closed")
    assert ran == []
