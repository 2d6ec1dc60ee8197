"""Messages that are small, or claim little, and are to take much memory or time.

The client is a process of its own, which tells its peak of memory.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

import msgpack
import pytest
from blake3 import blake3

from pie_sync._session.event_queue import EventQueue
from tests.faults.raw_server import RawPeer, binary_frame, raw_server

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

MIB = 1024 * 1024

#: The most memory that a bomb may take, beside a few times its own size.
ALLOWED = 64 * MIB

#: The most seconds until the client has dealt with it.
LIMIT = 3.0

PROGRAM = r"""
import logging, re, sys, time
from pie_sync import PieClient, PieError
logging.disable()

def peak():
    # Not resource.getrusage(), which begins with the peak of the process that started this one.
    return int(re.search(r"VmHWM:\s+(\d+)", open("/proc/self/status").read()).group(1)) * 1024

with PieClient(sys.argv[1], timeout=20, max_blob_size=4 * 1024 * 1024) as client:
    client.authenticate("alice")
    instance = client.launch_instance_from_registry("x")
    before, begin = peak(), time.monotonic()
    instance.send("ready")
    errors = 0
    kept = []
    client.ping()
    took = time.monotonic() - begin
    after = peak()
    while True:
        try:
            event, data = instance.recv(20)
            if data == "the end":
                break
        except PieError as error:
            errors += 1
            kept.append(str(error))
    print(after - before, took, errors, max(map(len, kept), default=0))
"""


class Outcome(NamedTuple):
    memory: int
    seconds: float
    errors: int
    longest_error: int


def explode(*payloads: bytes) -> Outcome:
    """Send messages to a client. It must still get an event that follows, and the answer to a ping."""

    def serve(peer: RawPeer) -> None:
        peer.authenticate()
        peer.launch()
        assert peer.receive()["message"] == "ready"
        for payload in payloads:
            peer.socket.sendall(binary_frame(payload))
        peer.send(type="instance_event", instance_id="instance-1", event=0, message="the end")
        peer.respond(peer.receive(), "Pong")
        peer.receive()

    with raw_server(serve) as uri:
        result = subprocess.run(
            [sys.executable, "-c", PROGRAM, uri], capture_output=True, text=True, timeout=60, check=False
        )
    assert result.returncode == 0, result.stderr
    memory, seconds, errors, longest = result.stdout.split()
    return Outcome(int(memory), float(seconds), int(errors), int(longest))


def assert_harmless(*payloads: bytes) -> Outcome:
    outcome = explode(*payloads)
    # A message is in the buffer, and once or twice in what becomes of it.
    assert outcome.memory < ALLOWED + 4 * max(map(len, payloads))
    assert outcome.seconds < LIMIT
    return outcome


CLAIMS = {
    "array of 4 Gi": b"\xdd\xff\xff\xff\xff",
    "map of 4 Gi": b"\xdf\xff\xff\xff\xff",
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "text of 4 GiB": b"\xdb\xff\xff\xff\xff",
    "extension of 4 GiB": b"\xc9\xff\xff\xff\xff\x05",
}


def test_claims_that_are_not_true():
    assert_harmless(*(claim + bytes(100) for claim in CLAIMS.values()))


def test_claims_inside_of_each_other():
    size = 4 * MIB
    claim = b"\xdd" + (size // 2).to_bytes(4, "big")
    assert_harmless(claim * 500 + b"\xc0" * size)


def test_deep_nesting():
    depths = (500, 1000, 1020, 1024, 1100, 100_000)
    assert_harmless(*(level * depth + b"\xc0" for depth in depths for level in (b"\x91", b"\x81\xa1a")))


@pytest.mark.parametrize("element", [b"\x80", b"\x90"], ids=["maps", "arrays"])
def test_many_empty_things(element):
    """A byte on the wire is 64 in memory."""
    size = 3 * MIB
    assert_harmless(b"\xdd" + size.to_bytes(4, "big") + element * size)


def chunk(**fields: object) -> bytes:
    message = {
        "type": "download_blob",
        "corr_id": 0,
        "instance_id": "instance-1",
        "blob_hash": "ab" * 32,
        "chunk_index": 0,
        "total_chunks": 1,
        "chunk_data": b"",
    }
    return msgpack.packb({**message, **fields})


def test_blobs_that_are_begun_and_never_ended():
    begun = (
        chunk(blob_hash=blake3(bytes((number,))).hexdigest(), total_chunks=1000, chunk_data=bytes(256 * 1024))
        for number in range(200)
    )
    assert assert_harmless(*begun).errors == EventQueue.MAX_ERRORS


def test_a_blob_that_never_ends():
    chunks = (chunk(chunk_index=number, total_chunks=2**32 - 1, chunk_data=bytes(MIB)) for number in range(200))
    assert assert_harmless(*chunks).errors == 1


def test_a_blob_of_empty_chunks():
    chunks = (chunk(chunk_index=number, total_chunks=2**63) for number in range(20_000))
    assert assert_harmless(*chunks).errors == 0


def test_totals_that_make_no_sense():
    chunks = (chunk(total_chunks=total, chunk_data=b"x") for total in (0, -1, -(2**63), 2**63))
    assert assert_harmless(*chunks).errors == 3


def test_hashes_that_are_very_long():
    hashes = (f"{number:4}" + "x" * MIB for number in range(200))
    outcome = assert_harmless(*(chunk(blob_hash=text, chunk_data=b"x") for text in hashes))
    assert outcome.errors
    assert outcome.longest_error < 1000


def test_errors_that_nobody_receives():
    """They wait in the instance's queue, up to a limit."""
    wrong = msgpack.packb({"type": "instance_event", "instance_id": "instance-1", "event": "x" * 10_000})
    outcome = assert_harmless(*[wrong] * 5_000)
    assert 1 <= outcome.errors <= 1_000
    assert outcome.longest_error < 1000


def test_answers_to_nobody():
    answer = {"type": "response", "successful": True, "result": "x" * 1_000}
    assert_harmless(*(msgpack.packb({**answer, "corr_id": number}) for number in range(100, 20_000)))


def test_events_of_instances_that_nobody_knows():
    event = {"type": "instance_event", "event": 0, "message": "x" * 1_000}
    assert_harmless(*(msgpack.packb({**event, "instance_id": str(number)}) for number in range(20_000)))
