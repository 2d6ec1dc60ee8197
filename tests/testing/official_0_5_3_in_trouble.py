"""Says what ``pie-client`` 0.5.3 does when things go wrong, as JSON: the facts of the table in docs/async.md.

A test runs this program with the interpreter of that client's own environment.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import sys
from pathlib import Path
from typing import Any

import pie_client
from pie_client import PieClient

#: How many seconds stand for "for ever".
PATIENCE = 3.0


async def how_it_ends(awaitable: Any) -> str:
    try:
        result = await asyncio.wait_for(awaitable, PATIENCE)
    except asyncio.TimeoutError:
        return "waits"
    except Exception as error:
        kinds = [kind.__name__ for kind in (ConnectionError, RuntimeError, ValueError) if isinstance(error, kind)]
        return f"{'/'.join(kinds) or 'Exception'}: {error}"
    return repr(result)


async def lost(uri: str) -> dict[str, Any]:
    """The server sends one message, and drops the connection while a request and two receivers wait."""
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        process = await client.launch_process("program")
        another = await client.launch_process("program")
        first = await process.recv()
        request, result = await asyncio.gather(how_it_ends(client.ping()), how_it_ends(another.result()))
        return {
            "before": first[1],
            "request": request,
            "recv": repr(await process.recv()),
            "recv again": await how_it_ends(process.recv()),
            "result": result,
            "next request": (await how_it_ends(client.ping())).partition(":")[0],
        }


async def silent(uri: str) -> dict[str, Any]:
    async with PieClient(uri) as client:
        return {"authenticate": await how_it_ends(client.authenticate("alice"))}


async def events(uri: str) -> dict[str, Any]:
    """The server sends a file too early, a wrong one, a right one, both outputs, a message, and the end."""
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        process = await client.launch_process("program")
        await process.signal("go")
        received = [(event.name, str(value)) for event, value in [await process.recv() for _ in range(5)]]
        collected = await client.launch_process("program")
        await collected.signal("go")
        result = await collected.result()
        return {
            "events": received,
            "after the end": await how_it_ends(process.recv()),
            "result": result,
            "output": collected.output,
        }


def api(_: str) -> dict[str, Any]:
    methods = [method for name, method in inspect.getmembers(PieClient) if not name.startswith("_")]
    takes = {method.__name__: str(inspect.signature(method)) for method in methods}
    return {
        "all async": all(map(inspect.iscoroutinefunction, methods)),
        "with a time limit": [
            method.__name__ for method in methods if "timeout" in str(inspect.signature(method))
        ],
        "with progress": [name for name, arguments in takes.items() if "progress" in arguments],
        "takes a key": "key" in takes["authenticate"],
        "py.typed": (Path(pie_client.__file__).parent / "py.typed").exists(),
    }


def main() -> None:
    what, uri = sys.argv[1:]
    seen = {"lost": lost, "silent": silent, "events": events, "api": api}[what](uri)
    print(json.dumps(asyncio.run(asyncio.wait_for(seen, 50)) if asyncio.iscoroutine(seen) else seen))


main()
