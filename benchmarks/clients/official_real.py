"""Measures the official async client, pie-client 0.5.3, on a real server of Pie 0.5."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from pie_client import PieClient
from pie_client.client import Event
from task import Clock, blocking, check, run


async def events(uri: str, count: int) -> dict[str, Any]:
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        clock = Clock()
        clock.start()
        process = await client.launch_process("pie-sync-benchmark@1.0.0", {"count": count})
        messages = 0
        while True:
            event, _text = await process.recv()
            if event is Event.Message:
                messages += 1
            elif event in {Event.Return, Event.Error}:
                break
        result = clock.stop()
    check(messages, count)
    return result


async def ping(uri: str, times: int) -> dict[str, Any]:
    taken = []
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        for _ in range(times):
            begin = perf_counter()
            await client.ping()
            taken.append(perf_counter() - begin)
    return {"times": taken}


if __name__ == "__main__":
    run(blocking({"events": events, "ping": ping}))
