"""Spread work over processes: each makes a client of its own.

This works with both ways of starting processes, "fork" and "spawn".
"""

import multiprocessing
import sys

from pie_sync import PieClient
from pie_sync.testing import LocalServer, ProgramContext

client: PieClient  # one for each worker process, see start_worker()


def square(context: ProgramContext) -> str:
    """Stand in for a program on a real server: square the argument."""
    return str(int(context.args[0]) ** 2)


def start_worker(uri: str) -> None:
    """Connect this worker process. It stays connected for all of its tasks."""
    global client
    client = PieClient(uri)
    client.connect()
    client.authenticate("alice")


def work(number: int) -> int:
    """Run one instance and return its result."""
    result = client.launch("square", [str(number)]).wait(timeout=30, check=True)
    return int(result.message)


def main(start_methods: list[str]) -> None:
    with LocalServer() as server:
        server.program("square")(square)
        for method in start_methods:
            processes = multiprocessing.get_context(method)
            with processes.Pool(
                2, initializer=start_worker, initargs=(server.uri,)
            ) as pool:
                print(f"{method}: {pool.map(work, range(10))}")


if __name__ == "__main__":
    main(sys.argv[1:] or ["fork", "spawn"])
