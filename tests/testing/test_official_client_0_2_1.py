"""The official async client of the instance protocol understands the server, and the server understands it."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pie_sync.testing import LocalServer, ProgramContext

from . import programs
from .official import run_official

SCRIPT = Path(__file__).parent / "official_0_2_1.py"


@pytest.mark.timeout(400)  # the first run builds the client's environment
def test_official_client_0_2_1(tmp_path: Path) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    key_path = tmp_path / "id_ed25519"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    wasm_path = tmp_path / "hello.wasm"
    wasm_path.write_bytes(programs.HELLO)
    program_hash = str(blake3(programs.HELLO).hexdigest())

    with LocalServer(users={"alice": public.decode()}) as server:

        @server.program("talk")
        def talk(ctx: ProgramContext) -> str:
            ctx.send(f"{ctx.args} {ctx.receive()}")
            ctx.stdout("waiting for a blob\n")
            return f"a blob of {len(ctx.receive_blob())} bytes"

        seen = run_official("0.2.1", SCRIPT, server.uri, str(key_path), str(wasm_path), program_hash)

    *hello, end = seen.pop("hello")
    assert "".join(text for stream, text in hello if stream == "Stdout") == f"{program_hash}\none\ntwo\n"
    assert end == ["Completed", ""]
    after_the_message = [["Stdout", "waiting for a blob\n"]]
    assert seen == {
        "stranger": "Username 'mallory' rejected by server: User 'mallory' is not authorized",
        "before upload": False,
        "after upload": True,
        "unknown program": f"Failed to launch instance: No such program with hash={'0' * 64}",
        "talk": ["['x'] a message", *after_the_message, ["Completed", "a blob of 700000 bytes"]],
        "doomed": [["Aborted", "Signal termination"]],
        "malformed": "Failed to terminate instance: Malformed instance ID",
        "query": True,
        "detached": [[["y"], "Detached"]],
        "attached": ["['y'] attached", *after_the_message, ["Completed", "a blob of 0 bytes"]],
        "attached twice": "Failed to attach to instance: Instance already attached",
        "left behind": ["['z'] left behind", *after_the_message, ["Completed", "a blob of 0 bytes"]],
        "left behind twice": "Failed to attach to instance: Instance already attached",
        "list": [],
    }
