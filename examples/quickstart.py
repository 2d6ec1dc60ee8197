"""Authenticate with an SSH key, upload a program, launch it, and stream its output.

With PIE_URI (and PIE_USERNAME, PIE_KEY) in the environment, this script uses that
server. Otherwise it starts a server in this process, makes a key, and authenticates by
signing the server's challenge.
"""

import getpass
import os
from contextlib import ExitStack
from pathlib import Path

import wasmtime
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pie_sync import Event, ParsedPrivateKey, PieClient
from pie_sync.testing import LocalServer

HELLO = Path(__file__).with_name("hello.wat")


def make_key() -> tuple[ParsedPrivateKey, str]:
    """Make an Ed25519 key: a private half for pie-sync, a public half for a server."""
    key = Ed25519PrivateKey.generate()
    private_text = key.private_bytes(
        Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()
    ).decode()
    public_text = (
        key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    )
    return ParsedPrivateKey.parse(private_text), public_text


def main() -> None:
    with ExitStack() as stack:
        uri = os.environ.get("PIE_URI")
        username = os.environ.get("PIE_USERNAME", getpass.getuser())
        if uri is None:
            private_key, public_key = make_key()
            uri = stack.enter_context(LocalServer(users={username: public_key})).uri
        else:
            key_file = os.environ.get("PIE_KEY")
            private_key = ParsedPrivateKey.from_file(key_file) if key_file else None

        client = stack.enter_context(PieClient(uri))
        client.authenticate(username, private_key)
        print(f"connected to {uri} as {username}, {client.ping() * 1000:.1f} ms away")

        program_hash = client.upload_program(wasmtime.wat2wasm(HELLO.read_text()))
        print(f"uploaded program {program_hash}")

        instance = client.launch_instance(program_hash, ["world", "Pie"])
        print(f"launched instance {instance.id}")
        for event, data in instance:
            if event is Event.Stdout:
                print(data, end="")
            elif event.terminal:
                print(f"ended: {event.name} {data}".rstrip())


if __name__ == "__main__":
    main()
