"""Runs load, cut connections, restarted servers and slow consumers at once, for ten minutes, on the loopback.

``python -m benchmarks.soak`` ends with a table: events sent, received, lost, duplicated, errors by kind, peak
memory, threads. Events that were on the network when a connection was cut are lost, as with every server; so an
instance may have as many gaps in its events as it had reconnections. The soak fails if there are more gaps, if an
event came twice, or if a thread hung.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import Counter

import psutil

from pie_sync import Event, PieClient, PieConnectionError, PieError
from pie_sync.testing import LocalServer, ProgramContext

BATCH = 500
PATIENCE = 60.0
MIB = 1024 * 1024


def count(context: ProgramContext) -> str:
    """Send a batch of numbers for each message: so both sides know which were sent when a connection broke."""
    number = 0
    while True:
        message = context.receive()
        if message == "stop":
            return str(number)
        for _ in range(BATCH):
            context.send(str(number))
            number += 1


class Server:
    """A LocalServer that can be restarted on its port."""

    def __init__(self) -> None:
        self.restarts = self.drops = 0
        self._server = self._make(0)
        self.uri = self._server.uri

    def _make(self, port: int) -> LocalServer:
        server = LocalServer(port=port)
        server.program("count")(count)
        server.start()
        return server

    def restart(self) -> None:
        port = self._server.port
        self._server.close()
        self._server = self._make(port)
        self.restarts += 1

    def drop(self) -> None:
        self._server.drop_connections()
        self.drops += 1

    def close(self) -> None:
        self._server.close()


class Tally:
    """Counts what the workers see. The lock guards the counts."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    def add(self, **counts: int) -> None:
        with self.lock:
            self.counts.update(counts)

    def error(self, error: BaseException) -> None:
        with self.lock:
            self.errors[type(error).__name__] += 1


def stream(client: PieClient, tally: Tally, over: threading.Event, pause: float) -> None:
    """Run instances one after another, and check the numbers that they send."""
    while not over.is_set():
        try:
            reconnects = client.stats().reconnects
            instance = client.launch_instance_from_registry("count")
            tally.add(instances=1)
            gaps = consume(instance, tally, over, pause)
            # One more than was counted: a connection that has just been lost is counted when it is restored.
            tally.add(unexplained=max(0, gaps - (client.stats().reconnects - reconnects) - 1))
        except (PieError, PieConnectionError) as error:
            tally.error(error)


class Numbers:
    """The numbers that one instance sends, as they arrive: 0, 1, 2, …

    Attributes:
        expected: the number that comes next, if none is missing.
        gaps: in how many places numbers were missing.
    """

    def __init__(self, tally: Tally) -> None:
        self.expected = self.gaps = 0
        self._tally = tally

    def take(self, number: int) -> None:
        if number < self.expected:
            self._tally.add(duplicated=1)
            return
        self.up_to(number)
        self._tally.add(received=1)
        self.expected += 1

    def up_to(self, number: int) -> None:
        """Note that all numbers below this one were sent."""
        if number > self.expected:
            self._tally.add(lost_on_the_way=number - self.expected)
            self.gaps += 1
            self.expected = number


def consume(instance, tally: Tally, over: threading.Event, pause: float) -> int:
    """Receive everything that an instance sends, and return in how many places numbers are missing."""
    numbers = Numbers(tally)
    for _ in range(20):
        if over.is_set():
            break
        instance.send("go")
        end = numbers.expected + BATCH
        while numbers.expected < end:
            try:
                event, data = instance.recv(timeout=2.0)
            except TimeoutError:
                # The "go" or the events were lost with a connection that was cut.
                tally.add(batches_cut=1)
                break
            if event is not Event.Message:
                return numbers.gaps
            numbers.take(int(data))
        over.wait(pause)
    instance.send("stop")
    for event, data in instance.events(timeout=PATIENCE):
        if event is Event.Message:
            numbers.take(int(data))
        elif event is Event.Completed:
            numbers.up_to(int(data))
            tally.add(sent=int(data), completed=1)
    return numbers.gaps


def ask(client: PieClient, tally: Tally, over: threading.Event) -> None:
    """Make requests of several kinds, one after another."""
    while not over.is_set():
        try:
            client.ping()
            client.list_instances()
            client.query("program_exists", "ab" * 32)
            tally.add(requests=3)
        except (PieError, PieConnectionError) as error:
            tally.error(error)


def break_things(server: Server, over: threading.Event) -> None:
    while not over.wait(random.uniform(1.0, 4.0)):
        if random.random() < 0.2:
            server.restart()
        else:
            server.drop()


def soak(seconds: float) -> int:
    server, tally, over = Server(), Tally(), threading.Event()
    process = psutil.Process()
    peak = process.memory_info().rss
    options = {"reconnect": True, "timeout": PATIENCE, "max_buffered_bytes": MIB}
    with PieClient(server.uri, **options) as one, PieClient(server.uri, **options) as two:
        for client in (one, two):
            client.authenticate("soak")
        workers = [
            *(threading.Thread(target=stream, args=(one, tally, over, 0.0)) for _ in range(4)),
            *(threading.Thread(target=stream, args=(two, tally, over, 0.5)) for _ in range(2)),
            *(threading.Thread(target=ask, args=(client, tally, over)) for client in (one, two)),
            threading.Thread(target=break_things, args=(server, over)),
        ]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + seconds
        threads = 0
        while time.monotonic() < deadline:
            over.wait(min(1.0, max(0.0, deadline - time.monotonic())))
            peak = max(peak, process.memory_info().rss)
            threads = max(threads, threading.active_count())
        over.set()
        for worker in workers:
            worker.join(2 * PATIENCE)
        hung = [worker for worker in workers if worker.is_alive()]
        reconnects = one.stats().reconnects + two.stats().reconnects
    server.close()
    counts = tally.counts
    rows = {
        "seconds": round(seconds),
        "connections cut, all at once": server.drops,
        "servers restarted": server.restarts,
        "reconnections": reconnects,
        "instances launched": counts["instances"],
        "instances completed": counts["completed"],
        "events sent by those that completed": counts["sent"],
        "events received": counts["received"],
        "events lost in a connection that was cut": counts["lost_on_the_way"],
        "events lost that no cut explains": counts["unexplained"],
        "events received twice": counts["duplicated"],
        "requests answered": counts["requests"],
        **{f"errors: {name}": number for name, number in sorted(tally.errors.items())},
        "peak memory, MiB (client and server)": round(peak / MIB),
        "threads at the most (client and server)": threads,
        "threads that hung": len(hung),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:>10,}")
    return 1 if hung or counts["duplicated"] or counts["unexplained"] else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: %(default)s)")
    return soak(parser.parse_args().seconds)


if __name__ == "__main__":
    sys.exit(main())
