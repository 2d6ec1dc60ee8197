"""Drives a server with ``pie-client`` 0.4.0 and prints the results as JSON.

A test runs this program with the interpreter of that client's own environment.
"""

# Left out: the internal token, and features that LocalServer lacks: launch_processes, run_processes, launch_daemon
# and MCP servers.

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pie_client import ParsedPrivateKey, PieClient, Process


async def until_end(process: Process) -> list[tuple[str, str]]:
    events = []
    while not events or events[-1][0] not in ("Return", "Error"):
        event, value = await process.recv()
        events.append((event.name, value if isinstance(value, str) else f"{len(value)} bytes"))
    return events


async def refusal(awaitable: Any) -> str:
    try:
        await awaitable
    except Exception as error:
        return str(error)
    return "accepted"


async def talk(process: Process, message: str) -> list[tuple[str, str]]:
    """Exchange messages and a file with a process that was just launched or attached to."""
    await process.signal(message)
    said = [await process.recv(), await process.recv()]
    await process.transfer_file(bytes(700_000))
    return [(event.name, value) for event, value in said] + await until_end(process)


async def find_detached(client: PieClient, text: str) -> str:
    (entry,) = (entry for entry in await client.list_processes() if entry["input"] == text)
    return entry["id"]


async def drive(uri: str, key: ParsedPrivateKey, wasm: str, manifest: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with PieClient(uri) as stranger:
        seen["stranger"] = await refusal(stranger.authenticate("mallory", key))
    async with PieClient(uri) as client:
        await client.authenticate("alice", key)
        await client.ping()
        seen["before install"] = await client.check_program("hello@1.0.0")
        await client.install_program(wasm, manifest)
        await client.install_program(wasm, manifest, force_overwrite=True)
        seen["after install"] = await client.check_program("hello@1.0.0", wasm, manifest)
        seen["no identifier"] = await refusal(client.check_program("hello@1"))
        seen["unknown program"] = await refusal(client.launch_process("hello@2.0.0"))
        seen["hello"] = await until_end(await client.launch_process("hello@1.0.0", {"name": "é"}))
        seen["talk"] = await talk(await client.launch_process("talk@0.2.0", {"n": 1}), "hi")

        doomed = await client.launch_process("talk@0.2.0")
        await doomed.terminate()
        seen["doomed"] = await until_end(doomed)
        seen["malformed"] = await refusal(client.terminate_process("nonsense"))
        seen["query"] = (await client.query("model_status", ""))[0]

        seen["detached"] = (await client.launch_process("talk@0.2.0", {"n": 2}, capture_outputs=False)).process_id
        left_behind = await client.launch_process("talk@0.2.0", {"n": 3})
        seen["list"] = sorted(
            (entry["username"], entry["program"], entry["input"]) for entry in await client.list_processes()
        )
    async with PieClient(uri) as client:
        await client.authenticate("alice", key)
        detached = await client.attach_process(await find_detached(client, '{"n": 2}'))
        seen["attached"] = await talk(detached, "hi")
        while True:  # until the server has noticed that the first connection is closed
            seen["left behind twice"] = await refusal(client.attach_process(left_behind.process_id))
            if seen["left behind twice"] == "accepted":
                break
        seen["left behind twice"] = await refusal(client.attach_process(left_behind.process_id))
        left_behind.client = client
        left_behind.event_queue = client.process_event_queues[left_behind.process_id]
        seen["left behind"] = await talk(left_behind, "hi")
        seen["end"] = await client.list_processes()
    return seen


def main() -> None:
    uri, key_path, wasm_path, manifest_path = sys.argv[1:]
    seen = drive(uri, ParsedPrivateKey.from_file(key_path), wasm_path, manifest_path)
    print(json.dumps(asyncio.run(asyncio.wait_for(seen, 50))))


main()
