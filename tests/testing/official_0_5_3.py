"""Drives a server with ``pie-client`` 0.5.3 and prints the results as JSON.

A test runs this program with the interpreter of that client's own environment.
"""

# Left out: programs that are scripts (the decorator @inferlet), which LocalServer refuses.

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pie_client import PieClient, Process


async def until_end(process: Process) -> list[tuple[str, str]]:
    events = []
    while not events or events[-1][0] not in ("Return", "Error"):
        event, value = await process.recv()
        events.append((event.name, value if isinstance(value, str) else f"{len(value)} bytes: {value.name}"))
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


async def drive(uri: str, wasm: str, manifest: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with PieClient(uri) as client:
        seen["unauthenticated"] = await client.list_processes()
        await client.authenticate("alice")
        await client.ping()
        seen["before install"] = await client.check_program("hello@1.0.0")
        await client.install_program(wasm, manifest)
        await client.install_program_bytes(
            Path(wasm).read_bytes(), Path(manifest).read_text(), force_overwrite=True
        )
        seen["after install"] = await client.check_program("hello@1.0.0")
        seen["no identifier"] = await refusal(client.check_program("hello@1"))
        seen["unknown program"] = await refusal(client.launch_process("hello@2.0.0"))
        seen["hello"] = await until_end(await client.launch_process("hello@1.0.0", {"name": "é"}))
        seen["talk"] = await talk(await client.launch_process("talk", {"n": 1}), "hi")

        result = await client.run("compute", a=2, b=[3])
        seen["result"] = [await result.result(), result.output]
        seen["failure"] = await refusal((await client.run("compute", a="x")).result())

        doomed = await client.launch_process("talk")
        await doomed.terminate()
        seen["doomed"] = await until_end(doomed)
        seen["malformed"] = await refusal(client.terminate_process("nonsense"))
        seen["query"] = (await client.query("model_status", ""))[0]
        seen["other query"] = await client.query("weather", "")

        seen["detached"] = (await client.launch_process("talk", {"n": 2}, capture_outputs=False)).process_id
        await client.launch_process("talk", {"n": 3})
        entries = await client.list_processes()
        seen["list"] = sorted((entry["username"], entry["program"], entry["input"]) for entry in entries)
        (detached_id,) = (entry["id"] for entry in entries if entry["input"] == '{"n": 2}')
    async with PieClient(uri, "default/another") as client:
        await client.authenticate("bob")
        while len(await client.list_processes()) > 1:
            pass  # until the server has ended the processes of the first connection
        attached = await client.attach_process(detached_id)
        seen["attached twice"] = await refusal(client.attach_process(detached_id))
        seen["attached"] = await talk(attached, "hi")
        seen["end"] = await client.list_processes()
    return seen


def main() -> None:
    seen = drive(*sys.argv[1:])
    print(json.dumps(asyncio.run(asyncio.wait_for(seen, 50))))


main()
