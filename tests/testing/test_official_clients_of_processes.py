"""The official async clients of the process protocol understand the server, and the server understands them."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from pie_sync.testing import LocalServer, ProgramContext

from . import programs
from .official import run_official

HERE = Path(__file__).parent
MANIFEST = '[package]\nname = "hello"\nversion = "1.0.0"\n'


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """The paths of a program and its manifest."""
    wasm, manifest = tmp_path / "hello.wasm", tmp_path / "Pie.toml"
    wasm.write_bytes(programs.HELLO)
    manifest.write_text(MANIFEST)
    return str(wasm), str(manifest)


def add_programs(server: LocalServer) -> None:
    @server.program("talk@0.2.0")
    def talk(ctx: ProgramContext) -> dict[str, object]:
        ctx.send(f"{ctx.input} {ctx.receive()}")
        ctx.send("waiting for a file")
        size = len(ctx.receive_blob())
        ctx.send_blob(bytes(300_000), name="zeros.bin")
        ctx.stdout("printed")
        return {"size": size}

    @server.program("compute")
    def compute(ctx: ProgramContext) -> list[int]:
        ctx.send("computing")
        return [ctx.input["a"] + number for number in ctx.input["b"]]


def check_common(seen: dict[str, object], zeros: str) -> None:
    """What both clients must have seen, whatever the version; it's taken out of ``seen``."""
    *printed, end = seen.pop("hello")
    assert {event for event, _ in printed} == {"Stdout"}
    assert "".join(value for _, value in printed) == 'hello@1.0.0\n{"name": "\\u00e9"}\n'
    assert end == ["Return", ""]

    asked = ["Message", "waiting for a file"]
    answered = [["File", zeros], ["Stdout", "printed"], ["Return", '{"size": 700000}']]
    without_prints = [answered[0], answered[2]]
    assert seen.pop("talk") == [["Message", "{'n': 1} hi"], asked, *answered]
    assert seen.pop("attached") == [["Message", "{'n': 2} hi"], asked, *without_prints]
    common = {
        "before install": False,
        "after install": True,
        "no identifier": "CheckProgram failed: Invalid program identifier 'hello@1':"
        " expected 'name@major.minor.patch'",
        "doomed": [["Error", "Signal"]],
        "malformed": "Failed to terminate process: Invalid process ID",
        "query": True,
        "detached": "",
        "end": [],
    }
    assert {name: seen.pop(name) for name in common} == common


@pytest.mark.timeout(400)  # the first run builds the client's environment
def test_official_client_0_4_0(tmp_path: Path, files: tuple[str, str]) -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    key_path = tmp_path / "id_ed25519"
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
    )
    with LocalServer(users={"alice": public.decode()}, protocol="process") as server:
        add_programs(server)
        seen = run_official("0.4.0", HERE / "official_0_4_0.py", server.uri, str(key_path), *files)
    left_behind = seen.pop("left behind")
    check_common(seen, zeros="300000 bytes")
    assert left_behind[0] == ["Message", "{'n': 3} hi"]
    assert left_behind[-2:] == [["Stdout", "printed"], ["Return", '{"size": 700000}']]
    url = "http://127.0.0.1:9/api/v1/inferlets/hello/2.0.0/manifest"
    unknown = f"Failed to download manifest from {url}: error sending request for url ({url})"
    assert seen == {
        "unknown program": f"Failed to launch process: {unknown}",
        "stranger": "Username 'mallory' rejected by server: User 'mallory' is not authorized",
        "list": [["alice", "talk@0.2.0", '{"n": 2}'], ["alice", "talk@0.2.0", '{"n": 3}']],
        "left behind twice": "Failed to attach to process: Process not found",
    }


@pytest.mark.timeout(400)
def test_official_client_0_5_3(files: tuple[str, str]) -> None:
    with LocalServer(protocol="process-0.5") as server:
        add_programs(server)
        seen = run_official("0.5.3", HERE / "official_0_5_3.py", server.uri, *files)
    check_common(seen, zeros="300000 bytes: zeros.bin")
    assert seen == {
        "unknown program": "Failed to launch process: program hello@2.0.0 is not installed",
        "unauthenticated": [],
        "result": [[5], ["computing"]],
        "failure": "KeyError: 'b'",
        "other query": [False, 'unknown query subject "weather" (known: model_status)'],
        "list": [["internal", "talk@0.2.0", '{"n": 2}'], ["internal", "talk@0.2.0", '{"n": 3}']],
        "attached twice": "Failed to attach to process: Cannot attach: already attached",
    }
