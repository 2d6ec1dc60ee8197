"""Drives a server with ``pie-client`` 0.2.1 and prints the results as JSON.

A test runs this program with the interpreter of that client's own environment.
"""

# Left out: the download of blobs. The client considers a blob complete one chunk too early (it compares the index
# of the next chunk, counted from 1, with the number of chunks), so a blob of one chunk never arrives, and the hash
# of a longer one does not match.

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from pie_client import Instance, ParsedPrivateKey, PieClient


async def until_end(instance: Instance) -> list[tuple[str, str]]:
    events = []
    while True:
        event, message = await instance.recv()
        events.append((event.name, message))
        if event.name in ("Completed", "Aborted", "Exception", "ServerError", "OutOfResources"):
            return events


async def refusal(awaitable: Any) -> str:
    try:
        await awaitable
    except Exception as error:
        return str(error)
    return "accepted"


async def drive(uri: str, key: ParsedPrivateKey, wasm: bytes, program_hash: str) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    async with PieClient(uri) as stranger:
        seen["stranger"] = await refusal(stranger.authenticate("mallory", key))
    async with PieClient(uri) as client:
        await client.authenticate("alice", key)
        await client.ping()
        seen["before upload"] = await client.program_exists(program_hash)
        await client.upload_program(wasm)
        seen["after upload"] = await client.program_exists(program_hash)
        seen["unknown program"] = await refusal(client.launch_instance("0" * 64))

        hello = await client.launch_instance(program_hash, ["one", "two"])
        seen["hello"] = await until_end(hello)

        talk = await client.launch_instance_from_registry("talk", ["x"])
        await talk.send("a message")
        seen["talk"] = [(await talk.recv())[1]]
        await talk.upload_blob(bytes(700_000))
        seen["talk"] += await until_end(talk)

        doomed = await client.launch_instance_from_registry("std/talk@latest")
        await doomed.terminate()
        seen["doomed"] = await until_end(doomed)
        seen["malformed"] = await refusal(client.terminate_instance("nonsense"))
        seen["query"] = (await client.query("model_status", ""))[0]

        # The client returns the same object for a detached instance; only the server tells the difference.
        detached = await client.launch_instance_from_registry("talk", ["y"], detached=True)
        seen["detached"] = [(info.arguments, info.status) for info in await client.list_instances()]
        left_behind = await client.launch_instance_from_registry("talk", ["z"])
    async with PieClient(uri) as client:
        await client.authenticate("alice", key)
        while {info.status for info in await client.list_instances()} != {"Detached"}:
            pass
        for name, instance_id in (
            ("attached", detached.instance_id),
            ("left behind", left_behind.instance_id),
        ):
            instance = await client.attach_instance(instance_id)
            await instance.send(name)
            seen[name] = [(await instance.recv())[1]]
            seen[name + " twice"] = await refusal(client.attach_instance(instance_id))
            await instance.upload_blob(b"")
            seen[name] += await until_end(instance)
        seen["list"] = [info.id for info in await client.list_instances()]
    return seen


def main() -> None:
    uri, key_path, wasm_path, program_hash = sys.argv[1:]
    key = ParsedPrivateKey.from_file(key_path)
    seen = drive(uri, key, Path(wasm_path).read_bytes(), program_hash)
    print(json.dumps(asyncio.run(asyncio.wait_for(seen, 50))))


main()
