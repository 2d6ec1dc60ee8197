"""Run a program for many inputs: one by one, many over one connection, many processes.

The third way works with any ``concurrent.futures.Executor``, such as a Dask cluster's.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from pie_sync import PieClient
from pie_sync.batch import run_batch
from pie_sync.testing import LocalServer, ProgramContext

PROMPTS = ["a haiku", "a limerick", "an ode", "a sonnet", "a ballad"]


def write(context: ProgramContext) -> str:
    """Stand in for a program that asks a model: write what the argument says."""
    context.stdout("thinking...\n")
    return f"{context.args[0]} about tea"


def one(client: PieClient) -> None:
    """Run one instance, like subprocess.run: launch, wait, return all output."""
    completed = client.run("write", ["an epic"], timeout=30)
    print(f"{completed.message} ({completed.stdout.strip()})")


def many(client: PieClient) -> None:
    """Run three instances at a time, failed ones twice; results come in order."""
    for completed in client.map(
        "write", ([prompt] for prompt in PROMPTS), concurrency=3, retries=1
    ):
        print(completed.message)


def more(uri: str) -> None:
    """Do the same in several processes, each with a connection of its own."""
    executor = partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))
    results = run_batch(
        uri,
        "write",
        ([prompt] for prompt in PROMPTS),
        executor,
        username="alice",
        shard_size=2,
    )
    print(" / ".join(completed.message for completed in results))


def main() -> None:
    with LocalServer() as server:
        server.program("write")(write)
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            one(client)
            many(client)
        more(server.uri)


if __name__ == "__main__":
    main()
