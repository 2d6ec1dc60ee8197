"""Drives the real server with the official ``pie-client`` 0.5.3 and prints the results as JSON.

A test runs this program, ``official_0_5_3.py URI COMPONENT``, with the interpreter of that client's environment,
and does the same with pie-sync. The test has uploaded the programs of ``inferlets`` before.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

# This program runs in isolated mode, in which the path has only its own environment.
sys.path.insert(0, str(Path(__file__).parent))

import inferlets
from pie_client import PieClient
from pie_client.client import Event, Process

NOBODY = "00000000-0000-0000-0000-000000000000"


async def play(process: Process, scenario: inferlets.Scenario) -> list[Any]:
    """Receives all events up to the end, and reacts as the scenario says."""
    seen = []
    data = None
    while True:
        if data is None:
            event, value = await asyncio.wait_for(process.recv(), inferlets.EVENT_LIMIT)
        else:
            event, value = await deliver(process, data)
            data = None
        if event is Event.File:
            seen.append([event.value, len(value), hashlib.sha256(value).hexdigest(), value.name])
        else:
            seen.append([event.value, value])
        if event in (Event.Return, Event.Error):
            return seen
        reaction = scenario.reactions.get(value) if event is Event.Message else None
        if isinstance(reaction, inferlets.Upload):
            data = inferlets.random_bytes(reaction.size)
        elif isinstance(reaction, inferlets.Send):
            await process.signal(reaction.text)
        elif isinstance(reaction, inferlets.Terminate):
            await process.terminate()


async def deliver(process: Process, data: bytes) -> tuple[Event, Any]:
    """Sends a file until the program reacts; returns the event of that reaction."""
    for _ in range(inferlets.MAX_SENT):
        await process.transfer_file(data)
        try:
            return await asyncio.wait_for(process.recv(), inferlets.RESEND_AFTER)
        except asyncio.TimeoutError:
            pass
    raise AssertionError("the program did not get a file")


async def refusal(awaitable: Any) -> str:
    """Returns the server's reason for a refused request, without the client's own text before it."""
    try:
        await awaitable
    except Exception as error:
        return str(error).split(": ", 1)[1]
    return "accepted"


async def requests(client: PieClient, component: bytes) -> dict[str, Any]:
    """Makes all requests except the scenarios."""
    seen: dict[str, Any] = {}
    await client.ping()
    ok, status = await client.query("model_status", "")
    seen["model status"] = [ok, sorted(json.loads(status))]
    seen["unknown query"] = list(await client.query("weather", ""))

    manifest = '[package]\nname = "echo-official"\nversion = "0.1.0"\n'
    seen["before upload"] = await client.check_program("echo-official@0.1.0")
    await client.install_program_bytes(component, manifest)
    await client.install_program_bytes(component, manifest)
    seen["after upload"] = await client.check_program("echo-official@0.1.0")
    for name in ("echo-official@0.1.0", "echo-official"):
        process = await client.launch_process(name, {"text": "ä", "number": 5})
        seen[f"component {name.count('@')}"] = await play(process, inferlets.Scenario(name))

    seen["refusals"] = [
        await refusal(client.launch_process("nobody")),
        await refusal(client.attach_process(NOBODY)),
        await refusal(client.attach_process("nonsense")),
        await refusal(client.terminate_process(NOBODY)),
        await refusal(client.terminate_process("nonsense")),
        await refusal(client.install_program_bytes(b"garbage", manifest.replace("echo", "garbage"))),
    ]

    # The answer to a launch without output has no id; the list has it.
    process = await client.launch_process("talk", {"detached": "official"}, capture_outputs=False)
    seen["id of a detached launch"] = process.process_id
    (entry,) = (entry for entry in await client.list_processes() if "official" in entry["input"])
    seen["list"] = [entry["program"], entry["username"], json.loads(entry["input"])["detached"]]
    attached = await client.attach_process(entry["id"])
    seen["attached twice"] = await refusal(client.attach_process(entry["id"]))
    await attached.signal("hello")
    talk = inferlets.Scenario("talk", {}, {"heard hello": inferlets.Send("stop")})
    # Whether its first message came before the attach, and was lost, is a race.
    seen["after attach"] = [event for event in await play(attached, talk) if event != ["message", "ready"]]
    return seen


async def drive(uri: str, component: bytes) -> dict[str, Any]:
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        seen = await requests(client, component)
        for title, scenario in inferlets.SCENARIOS.items():
            process = await client.launch_process(scenario.name, dict(scenario.arguments))
            seen[title] = await play(process, scenario)
        return seen


if __name__ == "__main__":
    uri, path = sys.argv[1:]
    print(json.dumps(asyncio.run(drive(uri, Path(path).read_bytes()))))
