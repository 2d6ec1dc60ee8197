"""Programs for LocalServer: Python functions, and two that are WebAssembly."""

from __future__ import annotations

from pathlib import Path

import wasmtime

from pie_sync.testing import LocalServer, ProgramContext

EXAMPLES = Path(__file__).parent.parent / "examples"

#: A core module, since it runs with every protocol.
HELLO = bytes(wasmtime.wat2wasm(Path(__file__).with_name("hello_module.wat").read_text()))

#: The component for Pie 0.2 that the documentation uses.
HELLO_0_2 = bytes(wasmtime.wat2wasm((EXAMPLES / "hello.wat").read_text()))


def add_programs(server: LocalServer) -> None:
    """Register every function below under its name."""
    for function in (echo, blob_echo, talk, fail, sleep_until_told, flood):
        server.program(function.__name__.replace("_", "-"))(function)


def echo(context: ProgramContext) -> str:
    """Send back each message until "stop"."""
    while (message := context.receive()) != "stop":
        context.send(message)
    return "stopped"


def blob_echo(context: ProgramContext) -> str:
    """Send back one blob."""
    context.send_blob(context.receive_blob())
    return ""


def talk(context: ProgramContext) -> str:
    """Send output, messages and a blob."""
    context.stdout("out 1\n")
    context.stderr("err 1\n")
    context.send("message 1")
    context.send_blob(b"blob 1")
    context.stdout("out 2\n")
    context.send("message 2")
    return " ".join(context.args)


def fail(context: ProgramContext) -> str:
    raise RuntimeError("the oven is cold")


def sleep_until_told(context: ProgramContext) -> str:
    return context.receive()


def flood(context: ProgramContext) -> str:
    """Send as many messages as the first argument says."""
    for number in range(int(context.args[0])):
        context.send(str(number))
    return "done"


def no_component(size: int) -> bytes:
    """Bytes that begin as WebAssembly does, so that they are uploaded, and are none."""
    return b"\0asm".ljust(size, b"\0")
