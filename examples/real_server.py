"""Run a function on a real Pie server, and exchange messages with it.

This script needs a server of Pie 0.5 with its Python runtime (``pie-sync serve
--engine`` starts one), and its address in the environment variable PIE_URI.
"""

import os
import sys

from pie_sync import Event, PieClient, inferlet


@inferlet
async def greet(name: str, times: int = 1) -> dict:
    """Greet somebody, and ask back."""
    from inferlet import session  # this runs on the server, where the package is

    for _ in range(times):
        print(f"Hello, {name}!")
    session.send("And who are you?")
    return {"greeted": [name, await session.receive()]}


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

        # The first function that a fresh server gets takes it about half a minute.
        instance = client.launch(greet, {"name": "world", "times": 2})
        for event, data in instance.events(timeout=30):
            print(f"{event.name}: {data!r}")
            if event is Event.Message:
                instance.send("pie-sync")
    return 0


if __name__ == "__main__":
    sys.exit(main())
