"""Components that run: the steps of the kit as real servers did them, and how an instance ends."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from pie_sync.testing import LocalServer
from tests.testing.conftest import Connect
from tests.testing.programs.components import KIT, component, program_0_4
from tests.testing.raw import ABORTED, COMPLETED, EXCEPTION, MESSAGE, OUT_OF_RESOURCES, RawClient
from tests.testing.raw_process import ProcessClient, manifest_of

#: The text of a trap on a real server. The offset depends on the release of wasmtime.
TRAP = r"Call error: error while executing at wasm backtrace:\n +0: +0x[0-9a-f]+ - main!<wasm function \d+>"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer(core_modules=False) as server:
        yield server


def play(client: RawClient, *steps: str) -> list[tuple[int | str, str]]:
    return list(client.events(client.start(KIT, *steps)))


def test_output_messages_and_a_result_come_in_their_order(client: RawClient) -> None:
    assert play(client, "o:out", "e:err", "m:message", "o:more", "R:result") == [
        ("Stdout", "out"),
        ("Stderr", "err"),
        (MESSAGE, "message"),
        ("Stdout", "more"),
        (COMPLETED, "result"),
    ]
    assert play(client, "R:ü") == [(COMPLETED, "ü")]
    assert play(client) == [(COMPLETED, "")]


def test_an_error_and_a_trap_are_told_as_a_real_server_does(client: RawClient) -> None:
    assert play(client, "x:went wrong") == [(EXCEPTION, "Runtime error: went wrong")]
    for steps in (["t"], ["R:first", "t"]):
        ((event, text),) = play(client, *steps)
        assert event == EXCEPTION
        assert re.fullmatch("Runtime error: " + TRAP, text)


def test_a_program_knows_its_instance(client: RawClient) -> None:
    instance_id = client.start(KIT, "i")
    assert list(client.events(instance_id)) == [("Stdout", instance_id), (COMPLETED, "")]


def test_clocks_go(client: RawClient) -> None:
    assert play(client, "T:2") == [*[("Stdout", text) for text in ("0", "\n", "1", "\n")], (COMPLETED, "")]


@pytest.mark.parametrize(
    ("pages", "expected"), [("30000", OUT_OF_RESOURCES), ("17", OUT_OF_RESOURCES), ("16", COMPLETED)]
)
def test_too_much_memory_at_the_start_is_out_of_resources(connect: Connect, pages: str, expected: int) -> None:
    with LocalServer(core_modules=False, memory_limit=2**20) as small:
        client = connect(to=small)
        ((event, _),) = client.events(client.start(component(memory=pages)))
        assert event == expected


def test_memory_does_not_grow_beyond_the_limit(connect: Connect) -> None:
    grow = "(if (i32.eq (memory.grow (i32.const 15)) (i32.const -1)) (then (unreachable)))"
    for limit, expected in ((2**20, COMPLETED), (2**19, EXCEPTION)):
        with LocalServer(core_modules=False, memory_limit=limit) as server:
            client = connect(to=server)
            ((event, _),) = client.events(client.start(component(grow)))
            assert event == expected


def test_an_endless_loop_ends_with_its_thread_when_it_is_terminated(
    server: LocalServer, client: RawClient
) -> None:
    before = set(threading.enumerate())
    instance_id = client.start(KIT, "o:up", "L")
    assert next(client.events(instance_id)) == ("Stdout", "up")
    started = time.monotonic()
    assert client.terminate(instance_id)[0]
    assert list(client.events(instance_id)) == [(ABORTED, "Signal termination")]
    # Were it still running, the server would wait for it for three seconds.
    server.close()
    assert time.monotonic() - started < 2.5
    assert set(threading.enumerate()) <= before


def test_two_at_once_do_not_disturb_each_other(client: RawClient) -> None:
    doomed = client.start(KIT, "o:up", "L")
    assert next(client.events(doomed)) == ("Stdout", "up")
    assert play(client, "o:other", "R:done") == [("Stdout", "other"), (COMPLETED, "done")]
    assert client.terminate(doomed)[0]
    assert list(client.events(doomed)) == [(ABORTED, "Signal termination")]


def test_who_sleeps_is_terminated_at_once_for_its_client(client: RawClient) -> None:
    instance_id = client.start(KIT, "o:asleep", "s:1500", "o:awake")
    assert next(client.events(instance_id)) == ("Stdout", "asleep")
    assert client.terminate(instance_id)[0]
    assert list(client.events(instance_id)) == [(ABORTED, "Signal termination")]
    client.assert_unanswered()


def test_200_that_end_at_once_all_tell_it(client: RawClient) -> None:
    program_hash = client.upload_program(KIT)["result"]
    running = {client.launch_hash(program_hash, "m:hello", "R:done") for _ in range(200)}
    messages = 0
    while running:
        event = client.receive()
        if event["event"] == MESSAGE:
            messages += 1
        else:
            assert (event["event"], event["message"]) == (COMPLETED, "done")
            running.remove(event["instance_id"])
    assert messages == 200


def test_nothing_is_said_when_the_interpreter_ends_beside_a_component() -> None:
    script = """
import sys
from pie_sync import PieClient
from pie_sync.testing import LocalServer
from tests.testing.programs.components import KIT
server = LocalServer()
server.start()
client = PieClient(server.uri)
client.connect()
client.authenticate("tester")
program = client.upload_program(KIT)
steps = ["T:100000"], ["o:up", "s:600000"], ["o:up", "L"]
instances = [client.launch_instance(program, arguments) for arguments in steps]
for instance in instances:
    instance.recv(60)
print("left", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


@pytest.fixture
def process_0_4() -> Iterator[ProcessClient]:
    with LocalServer(protocol="process", core_modules=False) as server:
        client = ProcessClient(server.uri, gateway=False, username="alice")
        yield client
        client.close()


def play_0_4(client: ProcessClient, name: str, text: str = "{}") -> list[tuple[str, str]]:
    assert client.add(program_0_4(name), manifest_of(name))[0]
    return list(client.events(client.launch(name, text)))


def test_programs_of_0_4(process_0_4: ProcessClient) -> None:
    text = '{"a": "ü"} '
    assert play_0_4(process_0_4, "hello", text) == [
        ("stdout", text),
        ("stdout", "\n"),
        ("stderr", "to stderr\n"),
        ("return", text),
    ]
    assert play_0_4(process_0_4, "fail") == [("stdout", "{}"), ("error", "boom")]
    assert play_0_4(process_0_4, "flood", "50") == [("message", "ready")] * 50 + [("return", "bye")]
    assert [event for event, _ in play_0_4(process_0_4, "bigmsg", "70000")] == ["message", "return"]
    assert [len(value) for _, value in play_0_4(process_0_4, "bigret", "70000")] == [70000]
    printed, (event, _) = play_0_4(process_0_4, "bigout", "70000")[:-1], play_0_4(process_0_4, "trap")[-1]
    assert sum(len(value) for _, value in printed) == 70000
    assert event == "error"
    assert re.fullmatch(TRAP, play_0_4(process_0_4, "trap")[-1][1])


def test_a_component_of_0_5_runs_under_the_name_for_all() -> None:
    with LocalServer(protocol="process-0.5", core_modules=False) as server:
        client = ProcessClient(server.uri, gateway=True, username="alice")
        client.add(program_0_4("fail", "pie:inferlet/run@0.3.0"), manifest_of("any"))
        assert list(client.events(client.launch("any"))) == [("stdout", "{}"), ("error", "boom")]
        client.close()
