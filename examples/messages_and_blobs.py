"""Exchange messages (text) and blobs (bytes) with a running program."""

import tempfile
from pathlib import Path

from pie_sync import Event, PieClient
from pie_sync.testing import LocalServer, ProgramContext


def shout(context: ProgramContext) -> str:
    """Stand in for a program on a real server: send back in capitals what arrives."""
    context.send(context.receive().upper())
    context.send_blob(context.receive_blob().upper())
    return "shouted twice"


def main() -> None:
    with LocalServer() as server:
        server.program("shout")(shout)
        with PieClient(server.uri) as client, tempfile.TemporaryDirectory() as folder:
            client.authenticate("alice")
            instance = client.launch("shout")

            instance.send("a message")
            event, data = instance.recv(timeout=10)
            print(f"{event.name}: {data}")

            # The source may be bytes, a path or an open file, which is read in pieces.
            path = Path(folder) / "blob.bin"
            path.write_bytes(b"a blob of bytes " * 40_000)
            instance.upload_blob(
                path,
                progress=lambda sent, total: print(f"sent {sent} of {total} bytes"),
            )

            for event, data in instance.events(timeout=10):
                if event is Event.Blob:
                    print(f"Blob: {len(data)} bytes, beginning with {data[:16]!r}")
                else:
                    print(f"{event.name}: {data}")


if __name__ == "__main__":
    main()
