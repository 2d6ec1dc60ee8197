"""2 GiB of events that nobody consumes: bounded memory, nothing lost, and everybody else is served meanwhile."""

from __future__ import annotations

import subprocess
import sys

from tests.scripted import Peer, scripted_server, wait_for_close

EVENT_SIZE = 64 * 1024
TOTAL = 2 * 1024**3
EVENTS = TOTAL // EVENT_SIZE
MEMORY_LIMIT = 200 * 1024**2

#: Run in a process of its own, whose size nothing else changes.
CONSUME_LATE = """
import hashlib, sys, psutil
from pie_sync import Event, PieClient

process = psutil.Process()
peak = 0
with PieClient(sys.argv[1], timeout=60) as client:
    client.authenticate("alice")
    slow = client.launch_instance_from_registry("slow")
    other = client.launch_instance_from_registry("other")
    served = 0
    for event, data in other:          # told each 512 events of the slow one, while those come in
        served += event is Event.Message
        client.ping()
        peak = max(peak, process.memory_info().rss)
    spilled = client.stats().spilled_bytes
    digest = hashlib.sha256()
    count = 0
    for event, data in slow.events(timeout=60):
        if event is Event.Message:
            digest.update(data.encode())
            count += 1
            if count % 4096 == 0:
                peak = max(peak, process.memory_info().rss)
print(peak, served, spilled, count, digest.hexdigest())
"""


def text_of(number: int) -> str:
    return f"{number:08}" * (EVENT_SIZE // 8)


def test_two_gibibytes(tmp_path):
    import hashlib

    digest = hashlib.sha256()

    def script(peer: Peer) -> None:
        peer.authenticate()
        peer.launch("slow")
        peer.launch("other")
        for number in range(EVENTS):
            text = text_of(number)
            digest.update(text.encode())
            peer.event(0, text, "slow")
            if number % 512 == 511:
                peer.event(0, "tick", "other")
                peer.respond(peer.receive(30), "Pong")
        peer.event(1, "", "slow")
        peer.event(1, "", "other")
        wait_for_close(peer, answer_pings=True)

    with scripted_server(script) as uri:
        result = subprocess.run(
            [sys.executable, "-c", CONSUME_LATE, uri], capture_output=True, text=True, timeout=110
        )
    assert result.returncode == 0, result.stderr
    peak, served, spilled, count, received = result.stdout.split()
    assert int(peak) < MEMORY_LIMIT
    assert int(served) == EVENTS // 512
    assert int(spilled) > TOTAL - MEMORY_LIMIT
    assert int(count) == EVENTS
    assert received == digest.hexdigest()
