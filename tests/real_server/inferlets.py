"""Programs that the tests run on the real server, and scenarios for two clients to play.

Tests with pie-sync and with the official client use this module, each in an environment of its own, so it imports
only the standard library. The programs' sources run on the server, which has a package ``inferlet``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class Inferlet(NamedTuple):
    """A program for the server: the source of a Python function, which gets its arguments by keyword."""

    entry: str
    source: str

    @property
    def name(self) -> str:
        """The program's default name."""
        return self.entry.replace("_", "-")

    def manifest(self, name: str = "", version: str = "1.0.0") -> str:
        """Return a manifest for it."""
        return (
            f'[package]\nname = "{name or self.name}"\nversion = "{version}"\n\n'
            f'[runtime]\nlanguage = "python"\nentry = "{self.entry}"\ncall = "kwargs"\n'
        )


ARGUMENTS = Inferlet(
    "arguments",
    """
def arguments(**given):
    return given
""",
)

TEXT = Inferlet(
    "text",
    """
def text(**given):
    return "not JSON: " + given["text"]
""",
)

STREAMS = Inferlet(
    "streams",
    """
import sys

def streams(**given):
    print("to stdout")
    print("to stderr", file=sys.stderr)
    sys.stdout.write("a\\u00e4\\u20ac\\U0001F600\\n\\nno end")
""",
)

TALK = Inferlet(
    "talk",
    """
from inferlet import session

async def talk(**given):
    session.send("ready")
    while True:
        text = await session.receive()
        if text == "stop":
            print("good-bye")
            return {"stopped": True}
        if text == "fail":
            raise ValueError("told to fail")
        session.send("heard " + text)
""",
)

BLOBS = Inferlet(
    "blobs",
    """
from inferlet import session

async def blobs(**given):
    session.send("waiting")
    data = await session.receive_file()
    session.send_file(data)
    return len(data)
""",
)

# This program waits for a message first: the official client drops a file that arrives before the answer to the
# launch.
NAMED_BLOBS = Inferlet(
    "named_blobs",
    """
from inferlet import session

async def named_blobs(names, **given):
    session.send("ready")
    await session.receive()
    for name in names:
        session._session.send_file_as(b"blob of " + name.encode(), name)
""",
)

FAIL = Inferlet(
    "fail",
    """
def fail(**given):
    raise ValueError("no luck today")
""",
)

MANY = Inferlet(
    "many",
    """
from inferlet import session

def many(count, size, **given):
    for number in range(count):
        session.send(str(number).ljust(size))
    return count
""",
)

ALL = (ARGUMENTS, TEXT, STREAMS, TALK, BLOBS, NAMED_BLOBS, FAIL, MANY)

# A program without a manifest: the smallest component that takes its arguments and returns them.
ECHO_COMPONENT = """
(component
  (core module $code
    (memory (export "memory") 1)
    ;; Called once, to allocate the arguments. The memory before address 16 is for the result.
    (func (export "allocate") (param i32 i32 i32 i32) (result i32)
      (i32.const 16))
    ;; A result in memory: 0 for success (memory begins with zeros), then the address and the length of a text.
    (func (export "run") (param $text i32) (param $length i32) (result i32)
      (i32.store (i32.const 4) (local.get $text))
      (i32.store (i32.const 8) (local.get $length))
      (i32.const 0)))
  (core instance $code (instantiate $code))
  ;; Named here, since wasmtime 40 does not know the short form.
  (alias core export $code "memory" (core memory $bytes))
  (alias core export $code "allocate" (core func $allocate))
  (func $run (param "input" string) (result (result string (error string)))
    (canon lift (core func $code "run")
      (memory $bytes) (realloc $allocate)))
  (instance $program (export "run" (func $run)))
  (export "pie:inferlet/run@0.3.0" (instance $program)))
"""

#: How many seconds a program has to react to a blob before the blob is sent again: the server drops a blob if the
#: program does not wait yet, and no message tells when it does. (The program sends one just before it waits.)
RESEND_AFTER = 0.3

#: How often a blob is sent before the test fails.
MAX_SENT = 30

#: For how many seconds to wait for any other event.
EVENT_LIMIT = 20.0


class Send(NamedTuple):
    """A reaction: send a text."""

    text: str


class Upload(NamedTuple):
    """A reaction: send bytes."""

    size: int


class Terminate(NamedTuple):
    """A reaction: terminate the instance."""


class Scenario(NamedTuple):
    """One launch.

    Attributes:
        name: the program's name.
        arguments: the program's arguments.
        reactions: what to do when the program sends a message, by that message.
    """

    name: str
    arguments: Mapping[str, Any] = MappingProxyType({})
    reactions: Mapping[str, Send | Upload | Terminate] = MappingProxyType({})


SCENARIOS = {
    "arguments": Scenario(
        "arguments", {"text": 'a"ä€😀', "whole": 5, "part": 2.5, "yes": True, "no": None, "list": [1, {"a": []}]}
    ),
    "no arguments": Scenario("arguments"),
    "a result that is no JSON": Scenario("text", {"text": "ä"}),
    "an argument that is missing": Scenario("text"),
    "streams": Scenario("streams"),
    "messages": Scenario("talk", {}, {"ready": Send("ä€😀\n"), "heard ä€😀\n": Send(""), "heard ": Send("stop")}),
    "an exception": Scenario("fail"),
    "an exception on request": Scenario("talk", {}, {"ready": Send("fail")}),
    "terminated": Scenario("talk", {}, {"ready": Terminate()}),
    "a blob of 1 byte": Scenario("blobs", {}, {"waiting": Upload(1)}),
    "a blob of one chunk": Scenario("blobs", {}, {"waiting": Upload(262_144)}),
    "a blob of two chunks": Scenario("blobs", {}, {"waiting": Upload(262_145)}),
    "a blob of many chunks": Scenario("blobs", {}, {"waiting": Upload(3_000_000)}),
    "named blobs": Scenario(
        "named-blobs", {"names": ["picture.png", "../../etc/passwd", "", "ä b.txt"]}, {"ready": Send("go on")}
    ),
    "many messages": Scenario("many", {"count": 1000, "size": 10}),
    "large messages": Scenario("many", {"count": 2, "size": 1_000_000}),
}


def random_bytes(size: int) -> bytes:
    """Return bytes that depend only on their number, so that both clients send the same."""
    return random.Random(size).getrandbits(8 * size).to_bytes(size, "little")


def install(client: Any) -> None:
    """Upload all programs with pie-sync. The first takes half a minute, while a fresh server prepares Python."""
    for inferlet in ALL:
        client.upload_program(inferlet.source.encode(), manifest=inferlet.manifest(), timeout=110.0)


def played(client: Any, launch: Callable[[], Any], play: Callable[[Any], Any]) -> Any:
    """Launch after an upload, with pie-sync, and return the result of ``play`` with the instance.

    About one time in 500, 0.5.2 never runs such a process (docs/compatibility.md, note 5); then this launches
    another one. If the server no longer lists the process, our client lost its end: that is a failure.
    """
    instance = launch()
    try:
        return play(instance)
    except TimeoutError:
        assert instance.id in [info.id for info in client.list_instances()], "its end was lost"
        instance.terminate()
        assert instance.wait(EVENT_LIMIT).event.name == "Aborted"
        return play(launch())


def deliver(instance: Any, blob: Any) -> Any:
    """Upload a blob with pie-sync until the program reacts; return the event of that reaction."""
    for _ in range(MAX_SENT):
        instance.upload_blob(blob)
        try:
            return instance.recv(timeout=RESEND_AFTER)
        except TimeoutError:
            pass
    raise AssertionError(f"the program did not get a blob that was sent {MAX_SENT} times")
