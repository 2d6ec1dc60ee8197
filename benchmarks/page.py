"""Writes the text of docs/performance.md."""

from __future__ import annotations

from benchmarks import machine, report
from benchmarks.goals import OFFICIAL, OFFICIAL_REAL, OFTEN, REAL_SERVER, Row
from benchmarks.measure import Bench
from benchmarks.scaling import EVENTS, Scale

PAGE = """\
# How fast it is

`make bench` writes this page from one run. The numbers depend on the machine, so compare the ratios: the run
measures all clients alternately, against the same load source. Every number is the median of {rounds} rounds, each
in a fresh process; the numbers for ping, connecting, importing, many instances and the real server are medians of
{more} rounds.

![The speed of pie-sync relative to the official async client, for each thing that was measured: to pie-client
{official_real} on a real server of Pie 0.5, and to pie-client {official} against the load source](performance.svg)

The chart has two baselines, because no release of the official client speaks both protocols: `pie-client`
{official_real} on a real server ([measured here](#on-a-real-server)), and `pie-client` {official} on the instance
protocol, against the load source. The plain client is the first one of [all clients](#all-clients).

## The goals

This table compares pie-sync with the official async client, `pie-client` {official}, on the instance protocol,
which servers up to Pie 0.2 speak. "In any round" gives the lowest and the highest ratio of the rounds, which shows
how much other load disturbed the machine.

{goals}

## All clients

The same run also measured two simpler clients. *websocket-client + queue.Queue* is a plain implementation: a
thread that receives, and a queue for each instance (`benchmarks/clients/plain.py`). The *bare socket* only reads
the same bytes (it drops events, and keeps a blob in memory), or sends bytes that were prepared before.

{everybody}

## Many instances on one connection

In each row, {events} events of 100 bytes are spread over a number of instances, whose events arrive in one of two
orders: one event of each instance in turn, or 20 events of each in turn. The first order is the hardest, because
an instance's data has left the processor's cache when its next event arrives. First all events arrive, then one
thread consumes them. (The instances are launched before the clock starts, and end after it stops: both are costs
of an instance, not of an event.) A client has one reader thread, however many instances there are.

{scaling}

## On a real server

This table compares pie-sync with `pie-client` {official_real} on the real pie-server {server}. The server sends
each message by itself, and its Python program takes most of the time, so no client can be much faster than another
here. "Processor time of each" is what all threads of the client take for an event.

{real}

## Short instances

Each instance of this table ends with one event right behind the answer to its launch, so what counts is what a
launch and an end cost the client. `client.map` with a list of inputs is compared with `asyncio.gather`, a
semaphore and the official client; the last rows compare `client.run` with a launch and a `recv()`. The load source
answers all that one read brings in one write. The medians are of {more} rounds.

{short}

`map` sends several launches in one write where no input can be waited for, as in a list. Inputs of a generator are
launched one by one, since the next one may be long in coming.

## Many short instances on a server that runs them

This table compares `client.map` with `asyncio.gather` and the official client, with a semaphore for 16 instances
at a time or without one. Unlike the rest of this page, these figures include the server: a `LocalServer` that runs
a Python function for each instance.

{batches}

## Many servers

One process, `run_batch` with a `ThreadPoolExecutor`, on 1, 2 and 4 servers in processes of their own. An instance
takes 20 ms, in which its server sleeps; 16 run at a time on each server, so that one server can do 800 a second.

{servers}

## Where the limits are

- An answer wakes two threads, the reader and the caller; an asyncio client has only one thread to wake. On a
  virtual machine with two processors the second wake-up costs about 20 µs of a ping, all of it in the kernel. That
  is more than the Python code of pie-sync takes, which is less than the official client's (`perf record`). With
  all processes on one processor (`taskset -c 0`) no thread wakes another across processors, and pie-sync's ping is
  the quicker one. When the machine is busy, the scheduler may keep the server and the only thread of an asyncio
  client on one processor. Then the ping of that client takes 70 µs, and pie-sync's still takes 120 µs.
- `run`, one after the other, pays for the two threads as well. The caller, the server and the reader thread wake
  each other in turn, and who wakes another is still running then. So with two processors a thread is often woken
  where it was not the last time, and finds the caches cold. (`perf stat` counted from 0 to 2.5 migrations for each
  `run`, and none with the official client.) Where each client is bound to one processor, in the last row of the
  short instances, that is not so. pie-sync leaves its threads where the system puts them all the same, since a
  thread that is bound has to wait for whatever else runs there.
- A large blob is written to new memory twice: when it arrives, and when it becomes a `Blob`. A `Blob` is a `bytes`
  with a name, and CPython can make one only by copying. Touching memory for the first time takes longer than the
  copy. From 32 MiB on, pie-sync asks Linux for large pages for the first of the two; for the second, only the user
  can do so (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`). On a virtual machine that gives its free memory back to the
  host, a large page sometimes costs more than it saves: those are the slowest rounds.
- If the real server runs on the same machine, its threads and the client's compete for two processors. The less a
  client works, the more often the server's threads sleep and have to wake each other: a client that sleeps for 1
  ms after each read takes a third of the processor time, and the stream takes 1.4 times as long. So pie-sync does
  not sleep, and in a quick stream it polls for up to 0.2 ms.
- If the events of ten thousand instances arrive in turn, an instance's data is no longer in the processor's cache
  when its next event arrives.

## How it is measured

- The load source (`benchmarks/source.py`) is a process of its own. It encodes everything that it sends before the
  clock starts. Of an upload it reads the head of each chunk, and drops the rest. It offers no compression, like
  Pie servers.
- An event "of 100 bytes" has a text of 100 bytes; the message around the text takes 86 bytes more.
- The clock runs from the message that makes the program send until the last event, or until the blob is there and
  its hash is verified. For an upload the clock runs from the call of `upload_program` to its return, including
  hashing. Starting processes, importing and connecting are not included, except in the rows that measure them.
- "Without numpy" means a process in which numpy can't be imported. With numpy, pie-sync imports it when an upload
  is large enough. The import takes about 0.1 s and is part of the first upload of a process, but not of the
  second, which the row "upload" shows.
- Authentication is by name alone, so that the speed of signatures does not matter.
- The official client has no iteration; its `recv()` is compared with both of ours. Its download of blobs fails
  with more than one chunk, so that row compares pie-sync with the bare socket.

To reproduce the measurements:

```sh
make bench
make bench-quick
```

The second command takes less than a minute, with smaller numbers, and doesn't write this page.

## The machine

{machine}
"""


def tables(rows: list[Row], scales: list[Scale]) -> list[str]:
    """Return the tables for the terminal, and doubts about the load source if there are any."""
    texts = [report.goals(rows, OFFICIAL)] if rows else []
    if any("plain" in row.samples for row in rows):
        texts.append(report.everybody(rows))
    return [*texts, *([report.scaling(scales)] if scales else []), *report.doubts(rows)]


def write(
    bench: Bench,
    rows: list[Row],
    scales: list[Scale],
    short: list[Row],
    *,
    real: list[Row],
    batches: str,
    servers: str,
) -> str:
    """Return the page. ``batches`` and ``servers`` are tables that were made elsewhere."""
    return PAGE.format(
        rounds=bench.rounds,
        more=OFTEN * bench.rounds,
        goals=report.goals(rows, OFFICIAL),
        everybody=report.everybody(rows),
        events=f"{EVENTS:,}",
        scaling=report.scaling(scales),
        short=report.goals(short, OFFICIAL),
        real=report.goals(real, OFFICIAL_REAL),
        official=OFFICIAL,
        official_real=OFFICIAL_REAL,
        server=REAL_SERVER,
        batches=batches,
        servers=servers,
        machine=report.table(["", ""], [list(line) for line in machine.describe(bench)]),
    )
