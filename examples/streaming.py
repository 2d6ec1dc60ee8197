"""Print what a program prints and sends while it runs, and how it ends."""

import sys

from pie_sync import Event, PieClient
from pie_sync.testing import LocalServer, ProgramContext


def count_down(context: ProgramContext) -> str:
    """Stand in for a program on a real server: count down from the argument."""
    for number in range(int(context.args[0]), 0, -1):
        context.stdout(f"{number}\n")
    context.stderr("that was close\n")
    context.send("lift-off")
    return "in orbit"


def main() -> None:
    with LocalServer() as server:
        server.program("count-down")(count_down)
        with PieClient(server.uri) as client:
            client.authenticate("alice")
            instance = client.launch("count-down", ["3"])
            for event, data in instance:
                if event is Event.Stdout:
                    print(data, end="", flush=True)
                elif event is Event.Stderr:
                    print(data, end="", file=sys.stderr, flush=True)
                elif event is Event.Message:
                    print(f"message: {data}")
                else:  # one of the five terminal events, after which the loop ends
                    print(f"{event.name}: {data}")


if __name__ == "__main__":
    main()
