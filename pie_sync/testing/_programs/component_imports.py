"""What LocalServer gives to a component: a session, and standard streams. wasmtime gives it clocks and the like.

The streams are not wasmtime's, which calls custom outputs from its own threads. There, a client that does not read
would stop the output of all instances, the last writes of a program that does not flush can be lost (measured: in
84 of 500 runs), and a call while the interpreter ends aborts the process. Here the thread that runs the program
also sends the program's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Union

from wasmtime import Engine, WasmtimeError
from wasmtime.component import (
    Component,
    ComponentInstanceType,
    FuncType,
    Linker,
    LinkerInstance,
    ResourceAny,
    ResourceHost,
    ResourceType,
    ResultType,
    ValType,
    Variant,
)

from ...events import Event
from .instance import Instance

__all__ = ["Imports", "Session"]

#: What wasmtime serves. Nothing else of WASI can be served by it, as it would know only its own streams.
SERVED_BY_WASMTIME = (
    "wasi:io/poll@",
    "wasi:io/error@",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:cli/environment@",
    "wasi:cli/exit@",
    "wasi:cli/terminal-",
)

# What tells a program's streams from each other.
STDIN, STDOUT, STDERR = range(3)
EVENTS = {STDOUT: Event.Stdout, STDERR: Event.Stderr}

#: How many bytes a program may write at once.
WRITE_BUDGET = 65536

#: Success without a value, where an error has one. Releases before 49 can't tell that this is ambiguous.
OK = None if ResultType.add_classes is ValType.add_classes else Variant("ok")

Call = Callable[..., Any]


class _Function(NamedTuple):
    name: str


class _Resource(NamedTuple):
    """A type of things that have a handle; ``number`` is the same for the same type in other interfaces."""

    name: str
    number: int


_Item = Union[_Function, _Resource]


class Imports:
    """The imports of a component that wasmtime does not serve, read once for all instances.

    Args:
        engine: the engine that compiled the component.
        component: the component.
    """

    def __init__(self, engine: Engine, component: Component) -> None:
        types = {name: _type(item) for name, item in component.type.imports(engine).items()}
        interfaces = {
            name: {key: _type(item) for key, item in interface.exports(engine).items()}
            for name, interface in types.items()
            if isinstance(interface, ComponentInstanceType)
        }
        served = {name for name in interfaces if name.startswith(SERVED_BY_WASMTIME)}
        known = [item for name in served for item in interfaces[name].values() if isinstance(item, ResourceType)]
        resources: list[ResourceType] = []
        self._functions = [name for name, item in types.items() if isinstance(item, FuncType)]
        self._interfaces: dict[str, list[_Item]] = {}
        for name in interfaces.keys() - served:
            items = self._interfaces[name] = []
            for key, item in interfaces[name].items():
                if isinstance(item, FuncType):
                    items.append(_Function(key))
                elif isinstance(item, ResourceType) and item not in known:
                    if item not in resources:
                        resources.append(item)
                    items.append(_Resource(key, resources.index(item)))

    def define(self, linker: Linker, session: Session) -> None:
        """Define these imports for one instance. What LocalServer does not have is a function that fails."""
        numbers = {item.name: item.number for item in self._streams() if isinstance(item, _Resource)}
        calls = session.calls(numbers)
        with linker.root() as root:
            for name in self._functions:
                root.add_func(name, session.refusal(name))
            for name, items in self._interfaces.items():
                own = calls.get(name.partition("@")[0], {})
                with root.add_instance(name) as interface:
                    _define(interface, name, items, own, session)

    def _streams(self) -> list[_Item]:
        return [
            i for name, items in self._interfaces.items() if name.startswith("wasi:io/streams@") for i in items
        ]


def _define(
    interface: LinkerInstance, name: str, items: list[_Item], own: Mapping[str, Call], session: Session
) -> None:
    for item in items:
        if isinstance(item, _Resource):
            interface.add_resource(item.name, ResourceType.host(item.number), _drop)
        elif item.name in own:
            interface.add_func(item.name, _guarded(own[item.name]))
        else:
            interface.add_func(item.name, session.refusal(f"{name} {item.name}"))


class Session:
    """What a component can do with its client, and its standard streams. Used in the thread that runs it.

    Attributes:
        returned: what the program has set as its result.
        refused: why the program was stopped: it called what LocalServer does not have. None if it was not.
    """

    def __init__(self, instance: Instance) -> None:
        self.returned = ""
        self.refused: str | None = None
        self._instance = instance

    def calls(self, numbers: Mapping[str, int]) -> dict[str, dict[str, Call]]:
        """Return the functions of each interface, which is named without its version.

        Args:
            numbers: the numbers of the types of streams, by name.
        """

        def stream(identity: int, kind: str) -> dict[str, Call]:
            return {
                f"get-{('stdin', 'stdout', 'stderr')[identity]}": lambda _store: ResourceHost.own(
                    identity, numbers[kind]
                )
            }

        output = "[method]output-stream."
        return {
            "inferlet:core/runtime": {
                "get-arguments": lambda _store: list(self._instance.arguments),
                "get-instance-id": lambda _store: self._instance.id,
                "set-return": self._set_return,
            },
            "inferlet:core/message": {"send": self._send},
            "pie:core/session": {"send": self._send},
            "wasi:cli/stdin": stream(STDIN, "input-stream"),
            "wasi:cli/stdout": stream(STDOUT, "output-stream"),
            "wasi:cli/stderr": stream(STDERR, "output-stream"),
            "wasi:io/streams": {
                output + "check-write": lambda _store, _stream: WRITE_BUDGET,
                output + "write": self._write,
                output + "blocking-write-and-flush": self._write,
                output + "flush": lambda _store, _stream: OK,
                output + "blocking-flush": lambda _store, _stream: OK,
            },
            "wasi:filesystem/preopens": {"get-directories": lambda _store: []},
        }

    def refusal(self, name: str) -> Call:
        """Return a function that stops the program, since LocalServer does not have what ``name`` says."""

        def refuse(_store: object, *_arguments: object) -> None:
            self.refused = f"LocalServer does not have {name}: it takes a real server"
            raise WasmtimeError(self.refused)

        return refuse

    def _set_return(self, _store: object, value: str) -> None:
        self.returned = value

    def _send(self, _store: object, message: str) -> None:
        self._instance.emit(Event.Message, message)

    def _write(self, _store: object, stream: int, contents: bytes) -> Variant | None:
        # As on a real server, each write is decoded by itself.
        text = bytes(contents).decode("utf-8", "replace")
        if text:
            self._instance.emit(EVENTS[stream], text)
        return OK


def _type(item: Any) -> Any:
    """Return the type of an import or an export, which newer releases of wasmtime wrap."""
    return getattr(item, "ty", item)


def _drop(_store: object, _identity: int) -> None:
    """Do nothing: there is nothing behind a handle."""


def _guarded(call: Call) -> Call:
    """Let a function have what a handle stands for in its place, and raise WasmtimeError only.

    wasmtime keeps any other exception in a variable that all threads share.
    """

    def guarded(store: Any, *arguments: Any) -> Any:
        try:
            # This also gives the handle back, which wasmtime asks for before the call ends.
            plain = [a.to_host(store).rep if isinstance(a, ResourceAny) else a for a in arguments]
            return call(store, *plain)
        except BaseException as error:
            raise WasmtimeError(f"{type(error).__name__}: {error}") from error

    return guarded
