"""Measures pie-sync, used as a user would."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from time import perf_counter
from typing import Any

from task import Clock, check, payload, peak_memory, run, stay_on_one_processor

from pie_sync import Event, Instance, PieClient


def events(uri: str, instances: int, count: int, size: int, by: str = "iteration") -> dict[str, Any]:
    """Consume each instance in a thread of its own; the first one in the main thread."""
    counted = []

    def iterate(instance: Instance) -> None:
        number = 0
        for _event, _text in instance:
            number += 1
        counted.append(number)

    def receive(instance: Instance) -> None:
        number = 1
        while True:
            event, _text = instance.recv()
            if event is Event.Completed:
                break
            number += 1
        counted.append(number)

    consume = iterate if by == "iteration" else receive
    with connected(uri) as client:
        launched = launch(client, instances, [instances, count, size, 1])
        threads = [threading.Thread(target=consume, args=(instance,)) for instance in launched[1:]]
        for thread in threads:
            thread.start()
        clock = Clock()
        clock.start()
        launched[0].send("go")
        consume(launched[0])
        for thread in threads:
            thread.join()
        result = clock.stop()
    check(sum(counted), instances * (count + 1))
    return result


def scaling(uri: str, instances: int, count: int, size: int, burst: int) -> dict[str, Any]:
    """Let all events arrive, then consume them in one thread.

    So only the number of instances differs: the same number of events waits in memory. The clock includes neither
    the launches nor the ends of the instances.
    """
    number = 0
    with connected(uri) as client:
        launched = launch(client, instances, [instances, count, size, burst], program="events-then-ends")
        clock = Clock()
        clock.start()
        launched[0].send("go")
        client.ping(timeout=None)  # is answered after the last event
        for instance in launched:
            for _event, _text in islice(instance, count):
                number += 1
        result = clock.stop()
        threads = threading.active_count()
        launched[0].send("go on")
        for instance in launched:
            number += len(list(instance))
    check(number, instances * (count + 1))
    return {**result, "threads": threads}


def launch(client: PieClient, instances: int, numbers: list[int], *, program: str = "events") -> list[Instance]:
    arguments = list(map(str, numbers))
    return [client.launch_instance_from_registry(program, arguments) for _ in range(instances)]


def download(uri: str, size: int) -> dict[str, Any]:
    with connected(uri) as client:
        instance = client.launch_instance_from_registry("blob", [str(size)])
        clock = Clock()
        clock.start()
        instance.send("go")
        event, blob = instance.recv()
        result = clock.stop()
    assert event is Event.Blob
    check(len(blob), size)
    return result


def upload(uri: str, size: int, again: bool = False, numpy: bool = True) -> dict[str, Any]:
    if not numpy:
        sys.modules["numpy"] = None  # type: ignore[assignment]  # it can't be imported
    data = payload(size)
    with connected(uri) as client:
        if again:
            client.upload_program(data)
        clock = Clock()
        clock.start()
        client.upload_program(data)
        return clock.stop()


def ping(uri: str, times: int) -> dict[str, Any]:
    with connected(uri) as client:
        taken = []
        for _ in range(times):
            begin = perf_counter()
            client.ping()
            taken.append(perf_counter() - begin)
    return {"times": taken}


def connect(uri: str, times: int) -> dict[str, Any]:
    taken = []
    for _ in range(times):
        begin = perf_counter()
        client = PieClient(uri)
        client.connect()
        client.authenticate("alice")
        taken.append(perf_counter() - begin)
        client.close()
    return {"times": taken}


def batch(uri: str, count: int, concurrency: int) -> dict[str, Any]:
    with connected(uri) as client:
        for _ in client.map("ends-at-once", [["0"]] * concurrency, concurrency=concurrency):
            pass
        inputs = [[str(number)] for number in range(count)]
        before = peak_memory()
        clock = Clock()
        clock.start()
        number = 0
        for completed in client.map("ends-at-once", inputs, concurrency=concurrency):
            check(int(completed.message), number)
            number += 1
        result = clock.stop()
    check(number, count)
    return {**result, "growth": peak_memory() - before}


def one_by_one(uri: str, times: int, on_one_processor: bool = False) -> dict[str, Any]:
    if on_one_processor:
        stay_on_one_processor()
    taken = []
    with connected(uri) as client:
        for number in range(times):
            begin = perf_counter()
            completed = client.run("ends-at-once", [str(number)])
            taken.append(perf_counter() - begin)
            check(int(completed.message), number)
    return {"times": taken}


def short(uri: str, times: int) -> dict[str, Any]:
    with connected(uri) as client:
        taken = []
        for _ in range(times):
            begin = perf_counter()
            client.launch_instance_from_registry("short").wait()
            taken.append(perf_counter() - begin)
    return {"times": taken}


@contextmanager
def connected(uri: str) -> Iterator[PieClient]:
    with PieClient(uri) as client:
        client.authenticate("alice")
        yield client


if __name__ == "__main__":
    run(
        {
            "events": events,
            "scaling": scaling,
            "download": download,
            "upload": upload,
            "ping": ping,
            "batch": batch,
            "one_by_one": one_by_one,
            "connect": connect,
            "short": short,
        }
    )
