"""Plays what real servers answered against LocalServer. The folder ``recorded`` says how it is written down."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
import wasmtime
import websocket
from cryptography.hazmat.primitives.asymmetric import ed25519

from pie_sync.testing import LocalServer, ProgramContext
from tests.testing import programs
from tests.testing.keys import public_line
from tests.testing.raw import CHUNK_SIZE, Wire, blake3_hex, chunks

RECORDED = Path(__file__).parent / "recorded"

FILES = {
    "0.2.txt": ["0.2", "0.2-names"],
    "0.2-by-hash.txt": ["0.2"],
    "0.2-by-name.txt": ["0.2-names"],
    "0.3-and-0.4.txt": ["0.3", "0.4"],
    "0.3.txt": ["0.3"],
    "0.4.txt": ["0.4"],
}

PAYLOADS = {
    "empty": b"",
    "text": b"no program",
    "abc": b"abc",
    "module": programs.SUCCESS,
    "large": programs.LARGE,
    "other": programs.LARGE + b"\0\1\0",
    "too large": bytes(CHUNK_SIZE + 1),
    "component": bytes(
        wasmtime.wat2wasm('(component (instance $empty) (export "pie:hello/run" (instance $empty)))')
    ),
}

SILENCE = 0.3  # seconds
KEY = public_line(ed25519.Ed25519PrivateKey.generate())


class Exchange(NamedTuple):
    protocol: str
    name: str
    options: dict[str, Any]
    lines: list[str]


def exchanges() -> Iterator[Exchange]:
    for file, protocols in FILES.items():
        _, *parts = re.split(r"^== ", (RECORDED / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
        for part in parts:
            title, *lines = part.strip().splitlines()
            name, _, options = title.partition("{")
            for protocol in protocols:
                yield Exchange(protocol, name.strip(), json.loads("{" + options if options else "{}"), lines)


def steps(ctx: ProgramContext) -> str:
    """The program of all exchanges."""
    for step in ctx.args if ctx.input is None else ctx.input:
        kind, _, text = step.partition(":")
        if kind == "o":
            ctx.stdout(text)
        elif kind == "e":
            ctx.stderr(text)
        elif kind == "m":
            ctx.send(text)
        elif kind == "b":
            ctx.send_blob(text.encode())
        elif kind == "r":
            ctx.receive()
        elif kind == "s":
            ctx.send(str(len(ctx.receive_blob())))
        elif kind == "x":
            raise RuntimeError(text)
        else:
            assert kind == "R"
            return text
    return ""


class Player:
    """Plays one exchange."""

    def __init__(self, server: LocalServer, is_instance_protocol: bool) -> None:
        self.server = server
        self.is_instance_protocol = is_instance_protocol
        self.connections: dict[str, Wire] = {}
        self.ids: dict[str, str] = {}

    def play(self, line: str) -> None:
        who, _, rest = line.partition(" ")
        if who == "server":
            method, _, options = rest.partition(" ")
            getattr(self.server, method)(**json.loads(options))
        elif who[-1] == ">":
            kind, corr_id, fields = rest.split(" ", 2)
            self.send(self.connections[who[:-1]], kind, corr_id, json.loads(fields))
        elif who[-1] == "<":
            self.expect(self.connections[who[:-1]].receive(), rest)
        else:
            verb, *words = rest.split(" ", 4)
            getattr(self, f"do_{verb}")(who, *words)

    # What is done

    def do_open(self, who: str) -> None:
        self.connections[who] = Wire(self.server.uri)

    def do_login(self, who: str, username: str) -> None:
        self.do_open(who)
        kind = "identification" if self.is_instance_protocol else "auth_identify"
        self.connections[who].request(kind, corr_id=0, username=username)

    def do_upload(self, who: str, kind: str, corr_id: str, payload: str, fields: str) -> None:
        for chunk in chunks(PAYLOADS[payload[1:]]):
            self.send(self.connections[who], kind, corr_id, {**json.loads(fields), **chunk})

    def do_closed(self, who: str) -> None:
        opcode, data = self.connections[who].socket.recv_data()
        assert (opcode, data) == (websocket.ABNF.OPCODE_CLOSE, b"")

    def do_silent(self, who: str) -> None:
        sock = self.connections[who].socket
        sock.settimeout(SILENCE)
        with pytest.raises(websocket.WebSocketTimeoutException):
            sock.recv_data()

    def do_cut(self, who: str) -> None:
        self.connections[who].vanish()

    def do_until(self, who: str, name: str, status: str) -> None:
        while True:
            instances = self.connections[who].request("list_instances", corr_id=0)["instances"]
            found = {entry["id"]: entry["status"] for entry in instances}
            if found.get(self.ids[name], "gone") == status:
                return

    def send(self, wire: Wire, kind: str, corr_id: str, fields: dict[str, Any]) -> None:
        message = {"type": kind, **{name: self.value(value) for name, value in fields.items()}}
        if corr_id != "-":
            message["corr_id"] = int(corr_id)
        wire.send_bytes(msgpack.packb(message, use_bin_type=True))

    def value(self, value: Any) -> Any:
        """Return what a value in an exchange stands for."""
        if not isinstance(value, str):
            return value
        payload = re.fullmatch(r"@([a-z ]+)(?:\[(\d)\])?", value)
        if payload is not None:
            name, index = payload.groups()
            return PAYLOADS[name] if index is None else chunks(PAYLOADS[name])[int(index)]["chunk_data"]
        value = re.sub(r"\$\w", lambda match: self.ids[match[0]], value)
        return re.sub(r"#([a-z]+)", lambda match: blake3_hex(PAYLOADS[match[1]]), value)

    # What is expected

    def expect(self, message: dict[str, Any], expected: str) -> None:
        first, second, rest = expected.split(" ", 2)
        if first.isdigit():
            flag = "successful" if self.is_instance_protocol else "ok"
            fields = {"type": "response", "corr_id": int(first), flag: second == "yes", "result": json.loads(rest)}
        elif first[0] == "$":
            fields = self.event(first, second, json.loads(rest))
        else:
            fields = {"type": first, **json.loads(rest)}
            if second != "-":
                fields["corr_id"] = int(second)
        self.compare(fields, message)

    def event(self, instance_id: str, event: str, text: str) -> dict[str, Any]:
        if not self.is_instance_protocol:
            return {"type": "process_event", "process_id": instance_id, "event": event, "value": text}
        if event.isdigit():
            return {"type": "instance_event", "instance_id": instance_id, "event": int(event), "message": text}
        return {"type": "streaming_output", "instance_id": instance_id, "output": {event: text}}

    def compare(self, expected: Any, found: Any) -> None:
        if isinstance(expected, dict):
            assert set(found) == set(expected), (expected, found)
            for name in expected:
                self.compare(expected[name], found[name])
        elif isinstance(expected, list):
            assert len(found) == len(expected), (expected, found)
            for one, other in zip(expected, found):
                self.compare(one, other)
        elif isinstance(expected, str) and isinstance(found, str):
            self.compare_texts(expected, found)
        elif expected != "…":
            assert found == self.value(expected)

    def compare_texts(self, expected: str, found: str) -> None:
        pattern, names = "", []
        for part in re.split(r"(…|\$\w|#[a-z]+)", expected):
            if part == "…":
                pattern += ".*"
            elif part[:1] == "$" and part not in self.ids:
                pattern += "([0-9a-f]{8}-[0-9a-f-]{27})"
                names.append(part)
            else:
                pattern += re.escape(self.value(part))
        match = re.fullmatch(pattern, found, re.DOTALL)
        assert match is not None, (expected, found)
        self.ids.update(zip(names, match.groups()))


@pytest.mark.parametrize(
    "exchange", list(exchanges()), ids=lambda exchange: f"{exchange.protocol}-{exchange.name}"
)
def test_local_server_answers_as_real_ones_did(exchange: Exchange) -> None:
    options = dict(exchange.options)
    if "users" in options:
        options["users"] = dict.fromkeys(options["users"], KEY)
    with LocalServer(protocol=exchange.protocol, **options) as server:
        server.program("steps@1.0.0")(steps)
        player = Player(server, exchange.protocol.startswith("0.2"))
        try:
            for line in exchange.lines:
                player.play(line)
        finally:
            for wire in player.connections.values():
                wire.vanish()


def test_every_recorded_exchange_is_played() -> None:
    assert {path.name for path in RECORDED.glob("*.txt")} == set(FILES)
