"""Measures pie-sync on a real server of Pie 0.5."""

from __future__ import annotations

from time import perf_counter
from typing import Any

from task import Clock, check, run

from pie_sync import Event, PieClient


def events(uri: str, count: int) -> dict[str, Any]:
    with PieClient(uri, protocol="process") as client:
        client.authenticate("alice")
        clock = Clock()
        clock.start()
        instance = client.launch_instance_from_registry("pie-sync-benchmark@1.0.0", {"count": count})
        messages = sum(event is Event.Message for event, _text in instance)
        result = clock.stop()
    check(messages, count)
    return result


def ping(uri: str, times: int) -> dict[str, Any]:
    taken = []
    with PieClient(uri, protocol="process") as client:
        client.authenticate("alice")
        for _ in range(times):
            begin = perf_counter()
            client.ping()
            taken.append(perf_counter() - begin)
    return {"times": taken}


if __name__ == "__main__":
    run({"events": events, "ping": ping})
