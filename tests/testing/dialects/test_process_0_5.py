"""The process protocol of Pie 0.5: the upgrade, the end of each turn, and what ends with a connection."""

from __future__ import annotations

import pytest
import websocket

from pie_sync.testing import LocalServer
from tests.testing.conftest import Connect
from tests.testing.raw_process import COMPLETE, TURN_DONE, UNANSWERED, ProcessClient, upgrade


@pytest.fixture
def protocol() -> str:
    return "process-0.5"


IDENTITY = {"x-pie-identity": "tenant/name"}


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/ws/", "/v2/ws", "/v1/ws2", "/v1/WS"])
@pytest.mark.parametrize("headers", [{}, IDENTITY], ids=["anonymous", "identified"])
def test_0_5_has_one_path(server: LocalServer, path: str, headers: dict[str, str]) -> None:
    assert upgrade(server, path, headers) == (404, b"")


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({}, b"identity: missing `x-pie-identity` (edge must inject verified identity)"),
        ({"x-pie-identity": ""}, b"identity: empty `x-pie-identity`"),
        ({"x-pie-identity": "  "}, b"identity: empty `x-pie-identity`"),
    ],
    ids=["missing", "empty", "blank"],
)
def test_0_5_wants_to_be_told_who_is_there(server: LocalServer, headers: dict[str, str], text: bytes) -> None:
    assert upgrade(server, "/v1/ws", headers) == (401, text)


@pytest.mark.parametrize("name", ["x-pie-identity", "X-Pie-Identity"])
@pytest.mark.parametrize("path", ["/v1/ws", "/v1/ws?a=b"])
def test_0_5_takes_any_identity(server: LocalServer, name: str, path: str) -> None:
    assert upgrade(server, path, {name: "nonsense"}) == (101, b"")


def test_a_refused_client_does_not_disturb_the_next(server: LocalServer, connect: Connect) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException, match="404"):
        ProcessClient(server.uri, gateway=False)
    connect().assert_unanswered()


ALREADY = "Already authenticated"


def test_0_5_takes_everybody_in(connect: Connect) -> None:
    client = connect(None)
    assert client.list() == []
    for name in ("alice", "bob"):
        assert client.ask("auth_identify", username=name) == (True, ALREADY)
    assert client.ask("auth_prove", signature="") == (False, ALREADY)


def test_0_5_knows_no_token(client: ProcessClient) -> None:
    client.send("auth_by_token", corr_id=9, token="secret")
    assert client.receive()["text"]["message"].startswith("bad client frame: unknown variant `auth_by_token`")
    client.assert_unanswered()


ATTACHED = (True, "Process attached")
TAKEN = (False, "Cannot attach: already attached")


@pytest.mark.parametrize("vanish", [False, True], ids=["closed", "lost"])
def test_losing_the_connection_ends_what_is_attached(connect: Connect, repeat: str, vanish: bool) -> None:
    first, second = connect(), connect()
    launched, attached = first.launch(repeat), first.launch_detached(repeat, '{"n": 1}')
    assert first.attach(attached) == ATTACHED
    detached, others = first.launch_detached(repeat, '{"n": 2}'), second.launch(repeat)
    assert second.ids() == {launched, attached, detached, others}
    first.vanish() if vanish else first.close()
    while second.ids() != {detached, others}:
        pass
    second.assert_unanswered()


def test_dropping_connections_ends_what_is_attached(server: LocalServer, connect: Connect, repeat: str) -> None:
    connect().launch(repeat)
    server.drop_connections()
    assert connect().list() == []


def test_a_refused_attach_ends_the_process_with_the_connection(connect: Connect, repeat: str) -> None:
    owner, other = connect(), connect()
    process_id = owner.launch(repeat)
    assert other.attach(process_id) == TAKEN
    other.close()
    assert list(owner.events(process_id)) == [("error", "Signal")]


# The end of each turn


@pytest.fixture
def turns(connect: Connect) -> ProcessClient:
    """A client of 0.5 that receives the end of each turn."""
    return connect(turns=True)


def next_is_pong(client: ProcessClient) -> None:
    """Nothing else arrives before the answer to this ping, and after it the end of its turn."""
    client.assert_unanswered()
    assert client.receive() == TURN_DONE


@pytest.mark.parametrize("kind", [kind for kind in COMPLETE if not kind.startswith(("launch", "attach"))])
def test_a_turn_ends_after_the_answer(turns: ProcessClient, kind: str) -> None:
    turns.send(kind, **COMPLETE[kind])
    assert turns.receive()["corr_id"] == 9
    assert turns.receive() == TURN_DONE
    next_is_pong(turns)


@pytest.mark.parametrize("kind", UNANSWERED)
def test_a_turn_without_an_answer_ends_too(turns: ProcessClient, kind: str) -> None:
    turns.send(kind, **UNANSWERED[kind])
    assert turns.receive() == TURN_DONE
    next_is_pong(turns)


@pytest.mark.parametrize("kind", ["launch_process", "attach_process"])
def test_a_refused_launch_or_attach_has_no_end_of_a_turn(turns: ProcessClient, kind: str) -> None:
    turns.send(kind, **COMPLETE[kind])
    assert not turns.receive()["ok"]
    next_is_pong(turns)


def test_the_turn_of_a_launch_ends_with_the_process(
    server: LocalServer, turns: ProcessClient, repeat: str
) -> None:
    process_id = turns.launch(repeat)
    next_is_pong(turns)
    turns.signal(process_id, "done")
    # The signal has a turn of its own; which of the two ends comes first is anybody's guess.
    received = [turns.receive() for _ in range(3)]
    assert received.count(TURN_DONE) == 2
    assert received[-1] == TURN_DONE
    (end,) = (message for message in received if message != TURN_DONE)
    assert (end["event"], end["value"]) == ("return", "bye")
    next_is_pong(turns)


def test_the_turn_of_an_attach_ends_with_the_process(turns: ProcessClient, repeat: str, connect: Connect) -> None:
    other = connect()
    process_id = other.launch_detached(repeat)
    assert turns.attach(process_id)[0]
    next_is_pong(turns)
    assert other.terminate(process_id)[0]
    assert turns.event() == ("error", "Signal")
    assert turns.receive() == TURN_DONE
    next_is_pong(turns)


def test_a_detached_launch_has_no_end_of_a_turn(server: LocalServer, turns: ProcessClient) -> None:
    server.program("short")(lambda ctx: None)
    assert turns.launch("short", capture=False) == ""
    next_is_pong(turns)


def test_what_is_not_understood_has_no_end_of_a_turn(turns: ProcessClient) -> None:
    turns.send("nonsense")
    assert turns.receive()["text"]["type"] == "error"
    next_is_pong(turns)
