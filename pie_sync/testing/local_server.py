"""A Pie server inside the calling process."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Callable, TypeVar

from ._dialects.profile import Flavour
from ._network.websocket import Connection, Listener
from ._programs.python_program import ProgramContext, PythonProgram
from ._programs.records import InstanceRecord
from ._server.catalog import ProgramName
from ._server.client import Client
from ._server.core import Core
from ._server.users import Users

__all__ = ["LocalServer"]

CLOSE_TIMEOUT = 3.0

Function = TypeVar("Function", bound=Callable[[ProgramContext], object])


class LocalServer:
    """A Pie server for demos and tests, over real WebSockets on this machine.

    .. code-block:: python

        with LocalServer() as server:

            @server.program("echo")
            def echo(ctx):
                ctx.send(ctx.receive())
                return "done"

            client = PieClient(server.uri)

    It speaks its protocol with the inconvenient parts: what a real server leaves unanswered or drops, this one
    leaves unanswered or drops too. Uploaded WebAssembly really runs (WASI preview 1 command modules, sandboxed);
    registry programs are Python functions. All methods are safe to call from any thread.

    Everything is kept in memory, without a limit: uploads, programs, messages that no program has received, and
    the output of detached instances as far as the protocol keeps it. What :attr:`instances` remembers is bounded.
    So is the output for an attached client that does not read: its programs wait.

    On the process protocol a core module stands in for a component, which is what a real server of that
    generation wants. It gets the JSON text of its arguments as its one argument. The smallest component, an empty
    one, can be uploaded but not run; other components, and scripts, are refused.

    What clients send is told to the logger ``pie_sync.testing.requests`` at level DEBUG: each request for a
    connection with its path and headers, and each message with its type.

    Args:
        users: OpenSSH public key lines (one text with one line or more, or several texts) by user name. Whoever
            identifies as one of them has to sign a challenge, everybody else is refused. None, the default,
            lets everybody in, under any name.
        internal_token: the token for internal authentication; None, the default, refuses every token.
        port: the TCP port; 0, the default, takes a free one.
        ssl_context: a server-side context makes this a ``wss://`` server.
        protocol: ``"instance"``, the default, for a server up to Pie 0.2; ``"process"`` for one of Pie 0.3 or
            0.4; ``"process-0.5"`` for one of Pie 0.5, which is found at the path ``/v1/ws`` only, wants to be told
            an identity but lets everybody in (so it takes neither ``users`` nor ``internal_token``), sends text
            frames beside the rest, and ends the instances that are attached to a lost connection.
        variant: for the instance protocol: ``"hash"``, the default, for a server that names programs by their
            hash, ``"name"`` for one that names them by their manifest.
        host: the address to listen on.
        memory_limit: bytes of linear memory that one WebAssembly instance may have. A program that fails when
            nothing more of it can be granted ends with ``OutOfResources``.
        challenge_message: for the instance protocol: send the challenge in a message of its own type, as some
            servers do.
        early_events: for the process protocol: let what an instance sends in its first 50 ms arrive before the
            answer to its launch, which a real server may do at any time.

    Raises:
        ValueError: a key line or an option can't be used, or not with this protocol.
    """

    def __init__(
        self,
        users: Mapping[str, str | Iterable[str]] | None = None,
        internal_token: str | None = None,
        port: int = 0,
        ssl_context: ssl.SSLContext | None = None,
        *,
        protocol: str = "instance",
        variant: str = "hash",
        host: str = "127.0.0.1",
        memory_limit: int = 64 * 1024 * 1024,
        challenge_message: bool = False,
        early_events: bool = False,
    ) -> None:
        self._flavour = Flavour.of(
            protocol, variant=variant, challenge_message=challenge_message, early_events=early_events
        )
        if protocol == "process-0.5" and (users is not None or internal_token is not None):
            raise ValueError("a server of Pie 0.5 authenticates nobody: users and internal_token have no meaning")
        self._host = host
        self._wanted_port = port
        self._ssl_context = ssl_context
        self._core = Core(Users(users, internal_token), memory_limit, keeps_output=self._flavour.keeps_output)
        self._listener: Listener | None = None
        self._clients: set[Client] = set()
        self._delay = 0.0
        # Guards the three above.
        self._lock = threading.Lock()
        self._closed = False
        # Guards the flag; held during the whole of the first close(), for which another one waits.
        self._close_lock = threading.Lock()

    def start(self) -> None:
        """Listen for clients; without effect when the server does so already.

        Raises:
            OSError: the address is not free.
            RuntimeError: the server was closed. Make a new one, on the same port if need be.
        """
        with self._lock:
            if self._core.closing.is_set():
                raise RuntimeError("a closed server can't be started again")
            if self._listener is None:
                self._listener = Listener(
                    self._host, self._wanted_port, self._ssl_context, self._serve, self._flavour.admit
                )

    def close(self) -> None:
        """Drop all connections, terminate all instances and wait for their threads. Idempotent.

        Takes 3 seconds at most. A Python program that neither returns nor uses its context by then goes on in
        a daemon thread.
        """
        deadline = time.monotonic() + CLOSE_TIMEOUT
        with self._lock:
            self._core.closing.set()
            listener = self._listener
            for client in self._clients:
                client.give_up()
        with self._close_lock:
            if self._closed:
                return
            self._closed = True
            if listener is not None:
                listener.close(deadline)
            self._core.close(deadline)

    def __enter__(self) -> LocalServer:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The TCP port that the server listens on.

        Raises:
            RuntimeError: it was not started.
        """
        listener = self._listener
        if listener is None:
            raise RuntimeError("the server is not started")
        return listener.port

    @property
    def uri(self) -> str:
        """What to connect to, such as ``ws://127.0.0.1:40001``: without a path, whatever the protocol.

        Raises:
            RuntimeError: the server was not started.
        """
        scheme = "ws" if self._ssl_context is None else "wss"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}"

    @property
    def instances(self) -> list[InstanceRecord]:
        """What is known of each instance, in the order of their launches, also of those that have ended.

        What an instance's program has received is there before the program goes on, and its end before a client
        is told of it: after :meth:`pie_sync.Instance.wait`, or another way to receive the last event, its record
        is complete. A message that no program has taken by then is not part of it.

        Each use of the property makes a new list, which does not change any more. The last 1000 instances are
        remembered, also after :meth:`close`, or fewer: when their arguments and what they received take more than
        64 MiB, the oldest are forgotten, each as a whole.
        """
        return self._core.records.snapshot()

    def program(self, name: str) -> Callable[[Function], Function]:
        """Make a Python function a program of the registry.

        The function is called in a thread of its own for every instance, with a :class:`ProgramContext`. What
        it returns, a str or None, completes the instance; on the process protocol something else does so as its
        JSON text. What it raises is the instance's ``Exception`` event, with the last line of the traceback as its
        text.

        Args:
            name: ``[namespace/]name[@version]``; what is left out is ``std`` and ``latest``. The process protocol
                has no namespaces but that one and no ``latest``, which is ``0.1.0`` there; a name has letters,
                digits, ``-`` and ``_`` only, a version three numbers.

        Returns:
            A decorator that leaves the function as it is.

        Raises:
            ValueError: ``name`` does not have that form.
        """
        program_name = self._flavour.registered_name(ProgramName.parse(name))

        def register(function: Function) -> Function:
            self._core.catalog.register(program_name, PythonProgram(function))
            return function

        return register

    def drop_connections(self) -> None:
        """Cut all connections without a farewell, as a failing network does.

        When this returns the instances that were attached are detached (with ``"process-0.5"``: ended), and on
        the instance protocol what had not been sent is kept for whoever attaches next. A client that does not read
        delays this by a second.
        """
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.drop()

    def delay(self, seconds: float) -> None:
        """Send everything that much later from now on, over every connection, as a slow server does. Never blocks.

        That holds for answers and events, which keep their order. Requests are carried out at once, and programs
        run as ever, until 1 MiB of what they send waits. Whoever connects is let in at once, and WebSocket pings
        are answered. When a connection is dropped, what is held back counts as not sent.

        A later call takes the place of an earlier one, for what is held back at that moment, too.

        Args:
            seconds: 0 or more; 0 ends it, and sends at once what was held back. ``math.inf`` sends nothing until
                the next call.

        Raises:
            ValueError: ``seconds`` is negative or not a number.
        """
        if not seconds >= 0:
            raise ValueError(f"a delay must be 0 seconds or more, not {seconds!r}")
        with self._lock:
            self._delay = seconds
            if not self._core.closing.is_set():
                for client in self._clients:
                    client.hold_back(seconds)

    def _serve(self, connection: Connection) -> None:
        client = Client(
            connection, self._flavour.encode, lambda channel: self._flavour.new_dialect(self._core, channel)
        )
        with self._lock:
            self._clients.add(client)
            if not self._core.closing.is_set():
                client.hold_back(self._delay)
        try:
            client.serve()
        finally:
            with self._lock:
                self._clients.discard(client)
