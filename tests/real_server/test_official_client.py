"""pie-sync and the official client do the same on one real server, and see the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pytest
import wasmtime

from pie_sync import Blob, Event, Instance, PieClient, RequestError

from . import harness, inferlets
from .inferlets import Scenario, Send, Terminate, Upload

SCRIPT = Path(__file__).parent / "official_0_5_3.py"
NOBODY = "00000000-0000-0000-0000-000000000000"

#: What the official client's events are here.
EVENTS = {
    "stdout": Event.Stdout,
    "stderr": Event.Stderr,
    "message": Event.Message,
    "file": Event.Blob,
    "return": Event.Completed,
    "error": Event.Exception,
}


@pytest.fixture(scope="module")
def client(real_server: harness.RealServer) -> Iterator[PieClient]:
    with PieClient(real_server.uri) as client:
        client.authenticate("alice")
        inferlets.install(client)
        yield client


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("component") / "echo.wasm"
    path.write_bytes(wasmtime.wat2wasm(inferlets.ECHO_COMPONENT))
    return path


@pytest.fixture(scope="module")
def official(real_server: harness.RealServer, client: PieClient, component: Path) -> dict[str, Any]:
    """What the official client saw."""
    seen: dict[str, Any] = real_server.official(SCRIPT, str(component))
    return seen


def as_ours(seen: list[list[Any]]) -> list[list[Any]]:
    """Turn the official client's events into this one's."""
    return [
        [Event.Aborted if (name, data) == ("error", ["Signal"]) else EVENTS[name], *data] for name, *data in seen
    ]


def play(instance: Instance, scenario: Scenario) -> list[list[Any]]:
    """Receive everything up to the end, and react as the scenario says."""
    seen: list[list[Any]] = []
    blob = None
    while True:
        if blob is None:
            event, data = instance.recv(inferlets.EVENT_LIMIT)
        else:
            event, data = inferlets.deliver(instance, blob)
            blob = None
        if isinstance(data, Blob):
            seen.append([event, len(data), hashlib.sha256(data).hexdigest(), data.name])
        else:
            seen.append([event, data])
        if event.terminal:
            return seen
        reaction = scenario.reactions.get(str(data)) if event is Event.Message else None
        if isinstance(reaction, Upload):
            blob = inferlets.random_bytes(reaction.size)
        elif isinstance(reaction, Send):
            instance.send(reaction.text)
        elif isinstance(reaction, Terminate):
            instance.terminate()


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """What the server says to a request that it refuses."""
    with pytest.raises(RequestError) as refused:
        call(*arguments, **options)
    return refused.value.reason


@pytest.mark.parametrize("title", inferlets.SCENARIOS)
def test_the_same_events(client: PieClient, official: dict[str, Any], title: str):
    scenario = inferlets.SCENARIOS[title]
    instance = client.launch_instance_from_registry(scenario.name, scenario.arguments)
    assert play(instance, scenario) == as_ours(official[title])


class TestRequests:
    def test_queries(self, client: PieClient, official: dict[str, Any]):
        successful, status = client.query("model_status", "")
        assert [successful, sorted(json.loads(status))] == official["model status"]
        assert list(client.query("weather", "")) == official["unknown query"]

    def test_a_component(self, client: PieClient, official: dict[str, Any], component: Path):
        manifest = '[package]\nname = "echo-ours"\nversion = "0.1.0"\n'
        client.upload_program(component, manifest=manifest)
        assert (official["before upload"], official["after upload"]) == (False, True)
        for name in ("echo-ours@0.1.0", "echo-ours"):
            seen = inferlets.played(
                client,
                partial(client.launch_instance_from_registry, name, {"text": "ä", "number": 5}),
                partial(play, scenario=Scenario(name)),
            )
            assert seen == as_ours(official[f"component {name.count('@')}"])

    def test_refusals(self, client: PieClient, official: dict[str, Any]):
        manifest = '[package]\nname = "garbage-ours"\nversion = "0.1.0"\n'
        assert [
            refusal(client.launch_instance_from_registry, "nobody"),
            refusal(client.attach_instance, NOBODY),
            refusal(client.attach_instance, "nonsense"),
            refusal(client.terminate_instance, NOBODY),
            refusal(client.terminate_instance, "nonsense"),
            refusal(client.upload_program, b"garbage", manifest=manifest),
        ] == official["refusals"]

    def test_a_detached_launch(self, client: PieClient, official: dict[str, Any]):
        # The server tells the official client no id, and that's all it has; here it's found.
        assert official["id of a detached launch"] == ""
        launched = client.launch_instance_from_registry("talk", {"detached": "official"}, detached=True)
        (info,) = (info for info in client.list_instances() if info.id == launched.id)
        assert [info.program, info.username, json.loads(info.arguments[0])["detached"]] == official["list"]

        attached = client.attach_instance(launched.id)
        assert official["attached twice"] == "Cannot attach: already attached"
        attached.send("hello")
        seen = play(attached, Scenario("talk", {}, {"heard hello": Send("stop")}))
        # Whether its first message came before the attach, and was lost, is a race.
        assert [event for event in seen if event != [Event.Message, "ready"]] == as_ours(official["after attach"])
