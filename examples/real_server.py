"""Run a Python program on a real Pie server, and exchange messages with it.

This script needs a server of Pie 0.5 with its Python runtime (on PyPI: pie-server and
pie-language-python), and its address in the environment variable PIE_URI.
"""

import os
import sys

from pie_sync import Event, PieClient

# This source runs on the server, which has the package inferlet.
PROGRAM = """
from inferlet import session

async def greet(name, times):
    for _ in range(times):
        print(f"Hello, {name}!")
    session.send("And who are you?")
    return {"greeted": [name, await session.receive()]}
"""

MANIFEST = """
[package]
name = "pie-sync-example-greet"
version = "1.0.0"

[runtime]
language = "python"
entry = "greet"
call = "kwargs"
"""


def main() -> int:
    uri = os.environ.get("PIE_URI")
    if not uri:
        print(
            "needs PIE_URI, the address of a Pie 0.5 server, such as ws://127.0.0.1:8080",
            file=sys.stderr,
        )
        return 2

    with PieClient(uri) as client:
        client.authenticate("alice")
        print(f"connected: the {client.protocol} protocol")

        # The first upload of a Python program to a server takes about half a minute, so
        # the time limit is long. "overwrite" replaces a program of this name and
        # version; without it, other bytes under that name are an error.
        client.upload_program(
            PROGRAM.encode(), manifest=MANIFEST, overwrite=True, timeout=300
        )

        instance = client.launch_instance_from_registry(
            "pie-sync-example-greet@1.0.0", {"name": "world", "times": 2}
        )
        for event, data in instance.events(timeout=30):
            print(f"{event.name}: {data!r}")
            if event is Event.Message:
                instance.send("pie-sync")
    return 0


if __name__ == "__main__":
    sys.exit(main())
