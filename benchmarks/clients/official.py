"""Measures the official async client, pie-client 0.2.1, in an environment of its own."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from pie_client import Event, Instance, PieClient
from task import Clock, blocking, check, payload, peak_memory, run, stay_on_one_processor


async def events(uri: str, instances: int, count: int, size: int) -> dict[str, Any]:
    """Consume each instance in a task of its own."""

    async def consume(instance: Instance) -> int:
        number = 1
        while True:
            event, _text = await instance.recv()
            if event is Event.Completed:
                return number
            number += 1

    async with PieClient(uri) as client:
        await client.authenticate("alice")
        arguments = [str(instances), str(count), str(size), "1"]
        launched = [await client.launch_instance_from_registry("events", arguments) for _ in range(instances)]
        tasks = [asyncio.create_task(consume(instance)) for instance in launched[1:]]
        await asyncio.sleep(0)
        clock = Clock()
        clock.start()
        await launched[0].send("go")
        number = await consume(launched[0]) + sum([await task for task in tasks])
        result = clock.stop()
    check(number, instances * (count + 1))
    return result


async def upload(uri: str, size: int, again: bool = False) -> dict[str, Any]:
    data = payload(size)
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        if again:
            await client.upload_program(data)
        clock = Clock()
        clock.start()
        await client.upload_program(data)
        return clock.stop()


async def ping(uri: str, times: int) -> dict[str, Any]:
    taken = []
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        for _ in range(times):
            begin = perf_counter()
            await client.ping()
            taken.append(perf_counter() - begin)
    return {"times": taken}


async def connect(uri: str, times: int) -> dict[str, Any]:
    taken = []
    for _ in range(times):
        begin = perf_counter()
        client = PieClient(uri)
        await client.connect()
        await client.authenticate("alice")
        taken.append(perf_counter() - begin)
        await client.close()
    return {"times": taken}


async def batch(uri: str, count: int, concurrency: int) -> dict[str, Any]:
    places = asyncio.Semaphore(concurrency)

    async def one(client: PieClient, number: int) -> int:
        async with places:
            return await _run(client, number)

    async with PieClient(uri) as client:
        await client.authenticate("alice")
        await asyncio.gather(*(one(client, 0) for _ in range(concurrency)))
        before = peak_memory()
        clock = Clock()
        clock.start()
        results = await asyncio.gather(*(one(client, number) for number in range(count)))
        result = clock.stop()
    for number, message in enumerate(results):
        check(message, number)
    return {**result, "growth": peak_memory() - before}


async def one_by_one(uri: str, times: int, on_one_processor: bool = False) -> dict[str, Any]:
    if on_one_processor:
        stay_on_one_processor()
    taken = []
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        for number in range(times):
            begin = perf_counter()
            message = await _run(client, number)
            taken.append(perf_counter() - begin)
            check(message, number)
    return {"times": taken}


async def _run(client: PieClient, number: int) -> int:
    instance = await client.launch_instance_from_registry("ends-at-once", [str(number)])
    while True:
        event, message = await instance.recv()
        if event is Event.Completed:
            return int(message)


async def short(uri: str, times: int) -> dict[str, Any]:
    taken = []
    async with PieClient(uri) as client:
        await client.authenticate("alice")
        for _ in range(times):
            begin = perf_counter()
            instance = await client.launch_instance_from_registry("short")
            while (await instance.recv())[0] is not Event.Completed:
                pass
            taken.append(perf_counter() - begin)
    return {"times": taken}


if __name__ == "__main__":
    kinds = {"events": events, "upload": upload, "ping": ping, "connect": connect}
    run(blocking({**kinds, "batch": batch, "one_by_one": one_by_one, "short": short}))
