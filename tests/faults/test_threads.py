"""Many threads on one client: every answer reaches its caller."""

from __future__ import annotations

import os
import random
import threading
from functools import partial

from blake3 import blake3

from pie_sync import Event, PieClient
from pie_sync.testing import LocalServer
from tests.faults.threads import run_all
from tests.programs import HELLO, add_programs

THREADS = 32

#: How many requests each thread makes.
REQUESTS = 1000 if os.environ.get("PIE_SYNC_EXHAUSTIVE") else 150

CHUNK = 256 * 1024


class Mixture:
    """What the threads do, each in an order of its own. Every answer says whose it is."""

    def __init__(self, client: PieClient) -> None:
        self._client = client
        self._programs = [client.upload_program(program(number)) for number in range(4)]

    def run(self, number: int) -> None:
        chance = random.Random(number)
        echo = self._client.launch_instance_from_registry("echo")
        for turn in range(REQUESTS):
            chance.choice([self._exists, self._exists_not, self._ping, self._echo, self._refused])(
                echo, f"{number}.{turn}", chance
            )
        echo.send("stop")
        assert list(echo.events(30)) == [(Event.Completed, "stopped")]

    def _exists(self, echo, text: str, chance: random.Random) -> None:
        assert self._client.query("program_exists", chance.choice(self._programs)) == (True, "true")

    def _exists_not(self, echo, text: str, chance: random.Random) -> None:
        assert self._client.query("program_exists", text) == (True, "false")

    def _ping(self, echo, text: str, chance: random.Random) -> None:
        assert self._client.ping() > 0

    def _echo(self, echo, text: str, chance: random.Random) -> None:
        echo.send(text)
        assert echo.recv(30) == (Event.Message, text)

    def _refused(self, echo, text: str, chance: random.Random) -> None:
        """An answer that repeats the question."""
        assert self._client.query("program_exists", f"{text}!").result == "false"


def program(number: int) -> bytes:
    """Return a WebAssembly program of two chunks: a custom section of any content is allowed behind it."""
    content = b"\x04junk" + bytes(CHUNK) + number.to_bytes(4, "big")
    size = len(content)
    return HELLO + b"\x00" + bytes((size & 127 | 128, size >> 7 & 127 | 128, size >> 14)) + content


def test_every_answer_reaches_its_caller():
    with LocalServer() as server, PieClient(server.uri, timeout=60) as client:
        add_programs(server)
        client.authenticate("alice")
        mixture = Mixture(client)
        stop = threading.Event()

        def upload() -> None:
            number = 100
            while not stop.is_set():
                number += 1
                assert client.upload_program(program(number)) == blake3(program(number)).hexdigest()

        def exchange_blobs() -> None:
            while not stop.is_set():
                blob = os.urandom(2 * CHUNK + 1)
                instance = client.launch_instance_from_registry("blob-echo")
                instance.upload_blob(blob)
                assert list(instance.events(30)) == [(Event.Blob, blob), (Event.Completed, "")]

        def stream() -> None:
            while not stop.is_set():
                result = client.launch_instance_from_registry("flood", ["1000"]).wait(30)
                assert result.messages == tuple(map(str, range(1000)))

        beside = threading.Thread(
            target=run_all, args=(upload, exchange_blobs, exchange_blobs, stream), kwargs={"limit": 200}
        )
        beside.start()
        try:
            run_all(*(partial(mixture.run, number) for number in range(THREADS)), limit=200)
        finally:
            stop.set()
            beside.join(30)
        assert not client.closed
        internals = client._manager.connection.session
        assert not internals.router.pending, "requests that nobody waits for"


def test_each_of_many_threads_uploads_the_same(client):
    """The same bytes twice at once would break each other on the server: they take turns."""
    instance = client.launch_instance_from_registry("sleep-until-told")
    blob = os.urandom(2 * CHUNK)
    run_all(*[partial(instance.upload_blob, blob)] * 8, *[partial(client.upload_program, program(0))] * 8)
    instance.send("enough")
    assert instance.recv(10) == (Event.Completed, "enough")
