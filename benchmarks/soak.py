"""Runs load, cut connections, restarted servers and slow consumers at once, for ten minutes, on the loopback.

``python -m benchmarks.soak`` ends with a table: events sent, received, lost, duplicated, errors by kind, peak
memory, threads. Events that were on the network when a connection was cut are lost, as with every server; so an
instance may have as many gaps in its events as it had reconnections. Now and then temporary files are impossible:
then the instances that nobody consumes (wide text, and blobs) lose events, and an error says how many. The soak
fails if there are more gaps, if an event came twice, if a thread hung, or if the clients' process takes more
memory than their limits, a few blobs, and a constant. The server has a process of its own.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from multiprocessing.connection import Connection

import psutil

from pie_sync import Event, Instance, PieClient, PieConnectionError, PieError
from pie_sync.testing import LocalServer, ProgramContext

BATCH = 500
PATIENCE = 60.0
MIB = 1024 * 1024
LIMIT = 16 * MIB  # max_buffered_bytes of each client
BLOB_SIZE = 2 * MIB
#: What the clients' process may take in addition: for the events that 13 threads are handling, and for Python.
CONSTANT = 48 * MIB


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


def pour(context: ProgramContext) -> str:
    """Send numbered wide texts and blobs, as many as the argument says, with short pauses."""
    total = int(context.args[0])
    for number in range(total):
        if number % 100 == 99:
            context.send_blob(number.to_bytes(8, "big") * (BLOB_SIZE // 8))
            time.sleep(0.05)
        else:
            context.send(f"{number} " + 5000 * "\N{GRINNING FACE}")
    context.receive()
    return str(total)


def serve(pipe: Connection) -> None:
    """Run a LocalServer, and carry out the commands from the pipe."""
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # it logs every connection that is cut

    def make(port: int) -> LocalServer:
        server = LocalServer(port=port)
        server.program("count")(count)
        server.program("pour")(pour)
        server.start()
        return server

    server = make(0)
    pipe.send(server.uri)
    while (command := pipe.recv()) != "close":
        if command == "drop":
            server.drop_connections()
        else:
            port = server.port
            server.close()
            server = make(port)
        pipe.send("done")
    server.close()


class Server:
    """A LocalServer in a process of its own, which can be restarted on its port."""

    def __init__(self) -> None:
        self.restarts = self.drops = 0
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,))
        self._process.start()
        self.uri = self._pipe.recv()

    def restart(self) -> None:
        self._tell("restart")
        self.restarts += 1

    def drop(self) -> None:
        self._tell("drop")
        self.drops += 1

    def _tell(self, command: str) -> None:
        self._pipe.send(command)
        if not self._pipe.poll(PATIENCE):
            raise TimeoutError("the server hangs")
        self._pipe.recv()

    def close(self) -> None:
        self._pipe.send("close")
        self._process.join(PATIENCE)
        self._process.kill()


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

    def skip(self, count: int) -> None:
        """Skip numbers that are lost, as the client has reported."""
        self.expected += count

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


def hoard(client: PieClient, tally: Tally, over: threading.Event) -> None:
    """Let instances fill the memory limit and the disk, over reconnections, and only then consume their events."""
    while not over.is_set():
        try:
            reconnects = client.stats().reconnects
            instance = client.launch_instance_from_registry("pour", ["3000"])
            tally.add(hoards=1)
            over.wait(10.0)
            spilled = client.stats().spilled_bytes
            gaps = look_at(instance, tally)
            tally.add(unexplained=max(0, gaps - (client.stats().reconnects - reconnects) - 1), spilled=spilled)
        except (PieError, PieConnectionError) as error:
            tally.error(error)


def look_at(instance: Instance, tally: Tally) -> int:
    """Receive the events of an instance, and return in how many places events are missing without an error."""
    numbers = Numbers(tally)
    told = 0
    while True:
        try:
            event, data = instance.recv(timeout=5.0)
        except TimeoutError:
            instance.send("stop")  # all events have arrived, or the others were lost with a connection
            continue
        except PieConnectionError:
            raise
        except PieError as error:
            lost = re.match("([0-9]+) events are lost", str(error))
            if lost is None:
                raise
            told += int(lost[1])
            continue
        if event.terminal:
            return numbers.gaps
        if isinstance(data, bytes):
            number = int.from_bytes(data[:8], "big")
            whole = data == data[:8] * (BLOB_SIZE // 8)
        else:
            text, _, rest = data.partition(" ")
            number = int(text)
            whole = rest == 5000 * "\N{GRINNING FACE}"
        tally.add(damaged=not whole, lost_for_room=told)
        numbers.skip(told)
        told = 0
        numbers.take(number)


def take_the_disk_away(over: threading.Event) -> None:
    """Make temporary files impossible now and then."""
    usual = tempfile.gettempdir()
    while not over.wait(random.uniform(3.0, 6.0)):
        tempfile.tempdir = "/proc/there/is/none"
        over.wait(random.uniform(1.0, 3.0))
        tempfile.tempdir = usual
    tempfile.tempdir = usual


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


def cut_connections(server: Server, over: threading.Event) -> None:
    while not over.wait(random.uniform(1.0, 4.0)):
        if random.random() < 0.2:
            server.restart()
        else:
            server.drop()


def soak(seconds: float) -> int:
    server, tally, over = Server(), Tally(), threading.Event()
    process = psutil.Process()
    before = peak = process.memory_info().rss
    options = {"reconnect": True, "timeout": PATIENCE, "max_buffered_bytes": LIMIT}
    with PieClient(server.uri, **options) as one, PieClient(server.uri, **options) as two:
        for client in (one, two):
            client.authenticate("soak")
        workers = [
            *(threading.Thread(target=stream, args=(one, tally, over, 0.0)) for _ in range(4)),
            *(threading.Thread(target=stream, args=(two, tally, over, 0.5)) for _ in range(2)),
            *(threading.Thread(target=ask, args=(client, tally, over)) for client in (one, two)),
            *(threading.Thread(target=hoard, args=(client, tally, over)) for client in (one, two)),
            threading.Thread(target=take_the_disk_away, args=(over,)),
            threading.Thread(target=cut_connections, args=(server, over)),
        ]
        for worker in workers:
            worker.start()
        deadline = time.monotonic() + seconds
        threads = 0
        while time.monotonic() < deadline:
            over.wait(min(0.02, max(0.0, deadline - time.monotonic())))
            peak = max(peak, process.memory_info().rss)
            threads = max(threads, threading.active_count())
        over.set()
        for worker in workers:
            worker.join(2 * PATIENCE)
        hung = [worker for worker in workers if worker.is_alive()]
        reconnects = one.stats().reconnects + two.stats().reconnects
    server.close()
    counts = tally.counts
    # A blob that arrives is assembled, and then copied to get its name; look_at() holds up to three.
    allowed = before + 2 * (LIMIT + 5 * BLOB_SIZE) + CONSTANT
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
        "instances that poured unconsumed": counts["hoards"],
        "MiB of theirs on disk when looked at, in all": counts["spilled"] // MIB,
        "events of theirs lost for want of a disk, and told": counts["lost_for_room"],
        "events of theirs damaged": counts["damaged"],
        "requests answered": counts["requests"],
        **{f"errors: {name}": number for name, number in sorted(tally.errors.items())},
        "memory before, MiB (without the server)": round(before / MIB),
        "peak memory, MiB (without the server)": round(peak / MIB),
        "allowed, MiB": round(allowed / MIB),
        "threads at the most (without the server's)": threads,
        "threads that hung": len(hung),
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:>10,}")
    wrong = hung or counts["duplicated"] or counts["unexplained"] or counts["damaged"] or peak > allowed
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: %(default)s)")
    logging.getLogger("pie_sync").setLevel(logging.CRITICAL)  # it tells of each event that is lost
    return soak(parser.parse_args().seconds)


if __name__ == "__main__":
    sys.exit(main())
