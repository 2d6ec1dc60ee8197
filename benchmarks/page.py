"""The text of docs/performance.md."""

from __future__ import annotations

from benchmarks import machine, report
from benchmarks.goals import OFTEN, Row
from benchmarks.measure import Bench
from benchmarks.scaling import EVENTS, Scale

PAGE = """\
# How fast it is

This page is written by `make bench`, from one run. Numbers depend on the machine, so what counts are the ratios:
every client is measured in the same run, in turn, against the same load source; every number is the median of
{rounds} rounds, each in a fresh process; those of ping, connecting, importing, many instances and the real server
are of {more}.

![Speed relative to the official async client](performance.svg)

## The goals

pie-sync against the official async client, `pie-client` 0.2.1, on the instance protocol. "In any round" is the
lowest and the highest ratio of the rounds: how much the machine was disturbed.

{goals}

## All clients

The same run, with two more. *websocket-client + queue.Queue* is what one writes in an hour: a thread that
receives, and a queue for each instance (`benchmarks/clients/plain.py`). The *bare socket* is no client at all: it
reads the same bytes (events are dropped, a blob is kept in memory), or sends bytes that were made ready before.

{everybody}

## Many instances on one connection

{events} events in all, of 100 bytes, spread over more and more instances, that arrive in turn: one event each, the
hardest order, since everything that belongs to an instance has left the processor's cache when it's its turn
again; or 20 in a row. First all of them arrive, then one thread consumes them. (The ends of the instances come
when the clock has stopped, as their launches come before it starts: they are costs of an instance, not of an
event.) A client has one reader thread, however many instances.

{scaling}

## On a real server

The real pie-server 0.5.2 and its own official client, `pie-client` 0.5.3. The server sends each message as it
comes, and its Python program is what takes most of the time, so no client can be much faster than another here.

{real}

## Many short instances

`client.map`, and what one writes with the official client instead: `asyncio.gather`, with a semaphore for 16 at a
time or without one. Unlike the rest of this page it is the whole that is measured, with a `LocalServer` that runs
a Python function for each instance.

{batches}

## Where the limits are

- An answer wakes two threads, the reader and the caller, where asyncio has only one to wake. On a virtual machine
  with two processors the second one costs about 20 µs of a ping, all of it in the kernel: more than the Python on
  the way, which is less than the official client's (`perf record`). With all processes on one processor
  (`taskset -c 0`) nobody is woken across, and the ping is the quicker one of the two. The other way round: where
  the scheduler happens to keep the server and the only thread of an asyncio client on one processor, as it does
  when the machine has more to do, that one's ping takes 70 µs, and pie-sync's still 120.
- A large blob is written to fresh memory twice: when it comes in, and when it becomes a `Blob`. That is a `bytes`
  with a name, and CPython makes such a thing only by copying. To touch memory for the first time takes more time
  than the copy. From 32 MiB on, Linux is asked for large pages for the first of the two; for the second one it can
  be asked from outside only (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`). On a virtual machine that gives its free
  memory back to the host, a large page now and then costs more than it saves: that makes the slowest rounds.
- With the real server on the same machine, its threads and the client's compete for two processors. The less a
  client works, the more often the server's threads sleep, and have to wake each other: a client that naps for 1 ms
  after each read takes a third of the processor time, and the stream takes 1.4 times as long. So pie-sync doesn't
  nap, and in a quick stream it stays awake for up to 0.2 ms.
- With ten thousand instances in turn nothing of an instance is in the processor's cache any more when its next
  event comes.

## How it is measured

- The load source (`benchmarks/source.py`) is a process of its own. Everything that it sends was encoded before; of
  what is uploaded to it, it looks at the head of each chunk and drops the rest. It offers no compression, as Pie
  servers don't.
- An event "of 100 bytes" carries a text of 100 bytes; the message around it takes 86 more.
- The clock runs from the message that makes the program send to the last event, or to the blob (its hash
  verified); for the upload from the call of `upload_program` to its return (hashing included). Starting processes,
  importing and connecting are not in it, except where they are what is measured.
- "Without numpy" is a process in which numpy can't be imported. With numpy, pie-sync imports it when that pays,
  which takes about 0.1 s: that is part of the first upload of a process, and not of the second one, which is what
  the row above it shows.
- Authentication is by name alone, so that it isn't the speed of signatures that is compared.
- The official client has no iteration; its `recv()` is compared to both of ours. Its download of blobs fails with
  more than one chunk, so that one is compared to the bare socket.

To reproduce:

```sh
make bench
make bench-quick
```

The second one takes less than a minute, with smaller numbers, and doesn't write this page.

## The machine

{machine}
"""


def tables(rows: list[Row], scales: list[Scale]) -> list[str]:
    """What is printed: the same tables, and doubts if there are any."""
    texts = [report.goals(rows)] if rows else []
    if any("plain" in row.samples for row in rows):
        texts.append(report.everybody(rows))
    return [*texts, *([report.scaling(scales)] if scales else []), *report.doubts(rows)]


def write(bench: Bench, rows: list[Row], scales: list[Scale], *, real: str, batches: str) -> str:
    """The page. ``real`` and ``batches`` are the tables of those two."""
    return PAGE.format(
        rounds=bench.rounds,
        more=OFTEN * bench.rounds,
        goals=report.goals(rows),
        everybody=report.everybody(rows),
        events=f"{EVENTS:,}",
        scaling=report.scaling(scales),
        real=real,
        batches=batches,
        machine=report.table(["", ""], [list(line) for line in machine.describe(bench)]),
    )
