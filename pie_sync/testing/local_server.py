"""LocalServer: a Pie server inside the calling process."""

from __future__ import annotations

import itertools
import logging
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Callable, TypeVar

from ..errors import PieValueError
from ._dialects.profile import ServerProfile
from ._network.server_socket import Inconvenience
from ._network.websocket import Connection, Listener
from ._programs.python_program import ProgramContext, PythonProgram
from ._programs.records import InstanceRecord
from ._server.catalog import ProgramName
from ._server.client import Client
from ._server.core import Core
from ._server.users import Users

__all__ = ["LocalServer"]

activity: logging.Logger = logging.getLogger("pie_sync.testing.activity")

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

    The server behaves like a real one also where that is inconvenient: it ignores the messages that a real server
    ignores, and drops what a real server drops. Uploaded WebAssembly really runs, in a sandbox; programs of the
    registry are Python functions. All methods are safe to call from any thread.

    Everything is kept in memory. There is no limit for uploads, programs, and messages that no program has
    received. There is a limit for the records of :attr:`instances`, and for the output that is queued for an
    attached client: if the client does not read, its programs wait.

    Each generation does what real servers of that generation were seen to do:

    - Pie 0.2, both variants: a refused identification or signature ends the connection, and so does a wrong token,
      after a second. Anybody may attach to and terminate anybody's instance, but lists only their own. Of a
      detached instance the last 1 MiB of standard output and of standard error is kept, and delivered as one event
      each; messages and blobs are dropped. A frame of more than 16 MiB, or a message of more than 64 MiB, ends the
      connection. By hash, bytes that can't be compiled end the connection; by name they are refused and keep the
      name. By name, 50 instances are listed at most.
    - Pie 0.3 and 0.4: who is not authenticated is ignored. After a wrong token, which is answered after a second,
      the right one works. Processes of a lost connection stay bound to it: they are listed and can be terminated,
      but nobody can attach to them. A close frame is not answered, and its socket leaked, unless something is
      written after it came (see :attr:`leaked_connections`). After a frame of more than 16 MiB, or a message of
      more than 64 MiB, the server reads nothing more. The hash of an upload is not compared. Pie 0.3 compiles a
      program when it is launched for the first time; from then on ``overwrite`` has no effect.
    - Pie 0.5: the path, the identity and the text frames that ``protocol`` tells of; processes end with the
      connection that they are attached to.

    What a real server does only sometimes is an option here, or a method: :meth:`lose`, ``blobs_lock_up``,
    ``nagle`` and ``early_events``.

    An uploaded program is a component, as on a real server: it exports ``inferlet:core/run`` on the instance
    protocol, ``pie:NAME/run`` as Pie 0.3 or 0.4, ``pie:inferlet/run`` as Pie 0.5. It has its arguments, the
    instance's id, its standard output and error, ``send``, a return value, and of WASI 0.2 clocks, random numbers
    and sleeping, but no files, no sockets and no standard input. If it calls anything else, such as
    ``receive``, blobs or a model, it ends with an error that says that it takes a real server. While it sleeps,
    its thread does not notice that it was terminated; its client does not wait for that, :meth:`close` does.

    As a convenience, which no real server has, this server also runs core modules: WASI preview 1 commands, whose
    standard input has a line for each message, and which get the arguments as ``argv``. Scripts are refused. As
    Pie 0.3 or 0.4 the server knows no bare names: a function registered as ``"echo"`` is launched as
    ``"echo@0.1.0"``.

    The logger ``pie_sync.testing.activity`` gets a record at level INFO for each connection, launch and end, and
    ``pie_sync.testing.requests`` gets a record at level DEBUG for each upgrade request, with its path
    and headers, and for each message, with its type.

    Args:
        users: OpenSSH public key lines (one str with one line or more, or several str) by user name. These users
            have to sign a challenge; all others are refused. None, the default, accepts every user name.
        internal_token: the token for internal authentication; None, the default, refuses every token.
        port: the TCP port; 0, the default, takes a free one.
        ssl_context: a server-side context makes this a ``wss://`` server.
        protocol: the generation of the server: ``"0.2"``, which names programs by their hash; ``"0.2-names"``,
            which names them by their manifest; ``"0.3"``, ``"0.4"`` or ``"0.5"``. Pie 0.5 has the path ``/v1/ws``
            only, requires an identity header but accepts every identity (so it takes neither ``users`` nor
            ``internal_token``), sends text frames as well as binary ones, and ends the instances of a lost
            connection. ``"instance"``, the default, is ``"0.2"``, ``"process"`` is ``"0.4"``, and
            ``"process-0.5"`` is ``"0.5"``.
        variant: for ``protocol="instance"``: ``"hash"``, the default, or ``"name"`` for ``"0.2-names"``.
        host: the address to listen on; ``127.0.0.1`` by default.
        memory_limit: bytes that each linear memory of a WebAssembly instance may have; 64 MiB by default. A
            program that needs more at its start ends with ``OutOfResources``, and so does a core module that fails
            when its memory can't grow any more.
        core_modules: whether core modules run. With False they are refused like any other bytes that can't be
            compiled, as on a real server: use it in tests of what will meet one.
        challenge_message: for the instance protocol: send the challenge in a message of its own type, as some
            servers do.
        early_events: for ``"0.5"``: let the events of an instance's first 50 ms arrive before the answer to its
            launch, as can happen with a real server.
        blobs_lock_up: for the instance protocol: an ``upload_blob`` to an attached instance locks up the server's
            side of the connection, as it does on every real server. The program gets the blob, but no request is
            answered and no event is sent on that connection any more, and its instances stay attached after its
            end. False by default.
        nagle: leave out TCP_NODELAY and write each message on its own, as servers up to Pie 0.2 do. If the
            client's system delays its acknowledgements, a short instance then takes 40 ms. False by default.

    Raises:
        PieValueError: a key line or an option is invalid, or does not fit the protocol.
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
        core_modules: bool = True,
        challenge_message: bool = False,
        early_events: bool = False,
        blobs_lock_up: bool = False,
        nagle: bool = False,
    ) -> None:
        self._profile = profile = ServerProfile.of(
            protocol,
            variant=variant,
            challenge_message=challenge_message,
            early_events=early_events,
            blobs_lock_up=blobs_lock_up,
        )
        self._nagle = nagle
        if not profile.authenticates and (users is not None or internal_token is not None):
            raise PieValueError("a server of Pie 0.5 authenticates nobody: leave out users and internal_token")
        if not 0 <= port <= 65535:
            raise PieValueError(f"port must be from 0 to 65535, not {port!r}")
        self._host = host
        self._wanted_port = port
        self._ssl_context = ssl_context
        self._core = Core(
            Users(users, internal_token, profile.largest_rsa),
            memory_limit,
            keeps_output=profile.keeps_output,
            core_modules=core_modules,
        )
        self._listener: Listener | None = None
        self._clients: set[Client] = set()
        self._delay = 0.0
        # Guards the three above.
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._closed = False
        # Guards _closed. The first close() holds it to its end, so that a second one waits for the first.
        self._close_lock = threading.Lock()

    def start(self) -> None:
        """Start to listen for clients. Does nothing if the server is listening already.

        Raises:
            OSError: the address is not available.
            RuntimeError: the server was closed. Make a new one; it can have the same port.
        """
        with self._lock:
            if self._core.closing.is_set():
                raise RuntimeError("a closed server can't be started again")
            if self._listener is None:
                profile, inconvenience = self._profile, None
                if profile.max_frame_size is not None:
                    inconvenience = Inconvenience(profile.max_frame_size, profile.goes_deaf, profile.leaks)
                self._listener = Listener(
                    self._host,
                    self._wanted_port,
                    self._ssl_context,
                    self._serve,
                    profile.check_upgrade,
                    inconvenience=inconvenience,
                    nagle=self._nagle,
                )

    def close(self) -> None:
        """Drop all connections, terminate all instances and wait for their threads. Idempotent.

        Blocks for 3 seconds at most. A Python program that has neither returned nor used its context by then, or
        a component that sleeps, continues in a daemon thread.
        """
        deadline = time.monotonic() + CLOSE_TIMEOUT
        with self._lock:
            self._core.closing.set()
            listener = self._listener
            for client in self._clients:
                client.stop_sending()
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

    def __repr__(self) -> str:
        if self._core.closing.is_set():
            return "<LocalServer closed>"
        where = "not started" if self._listener is None else self.uri
        return f"<LocalServer {where}, {len(self._core.records.snapshot())} instances so far>"

    @property
    def port(self) -> int:
        """The TCP port that the server listens on.

        Raises:
            RuntimeError: the server was not started.
        """
        listener = self._listener
        if listener is None:
            raise RuntimeError("the server is not started")
        return listener.port

    @property
    def uri(self) -> str:
        """The URI for clients, such as ``ws://127.0.0.1:40001``: without a path, whatever the protocol.

        Raises:
            RuntimeError: the server was not started.
        """
        scheme = "ws" if self._ssl_context is None else "wss"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}"

    @property
    def instances(self) -> list[InstanceRecord]:
        """The records of all instances, ended ones included, in the order of their launches.

        A message is recorded before the program that receives it continues, and the end before the terminal event
        is sent. So a record is complete once a client has received the terminal event, for example when
        :meth:`pie_sync.Instance.wait` has returned. A message that no program has received is not recorded.

        Each use of the property makes a new list, which does not change. The last 1000 instances are kept, also
        after :meth:`close`. If their arguments and messages take more than 64 MiB, the oldest records are dropped,
        each as a whole.
        """
        return self._core.records.snapshot()

    @property
    def leaked_connections(self) -> int:
        """How many sockets the server has leaked: their clients are gone, but the server never closes them.

        As Pie 0.3 and 0.4 (``protocol="0.3"``, ``"0.4"``) the server leaks a socket when a client sends a close
        frame and then closes its connection, while nothing was written to the client after the close frame. Else
        this is 0. :meth:`close` closes leaked sockets.
        """
        listener = self._listener
        return 0 if listener is None else listener.leaked

    def program(self, name: str) -> Callable[[Function], Function]:
        """Make a Python function a program of the registry.

        For each instance, the function is called in a thread of its own with a :class:`ProgramContext`. The
        instance completes with the returned str, or with an empty text if it is None; on the process protocol,
        any other value is returned as its JSON text. If the function raises, the instance ends with an
        ``Exception`` event, whose text is the last line of the traceback; on the instance protocol after
        ``Runtime error:`` and a blank.

        Args:
            name: ``[namespace/]name[@version]``; the defaults are ``std`` and ``latest``. On the process protocol
                the namespace is always ``std``, the default version is ``0.1.0``, a name has letters, digits,
                ``-`` and ``_`` only, and a version is three numbers.

        Returns:
            A decorator that returns the function unchanged.

        Raises:
            ValueError: ``name`` does not have that form.
        """
        program_name = self._profile.registered_name(ProgramName.parse(name))

        def register(function: Function) -> Function:
            self._core.catalog.register(program_name, PythonProgram(function))
            return function

        return register

    def drop_connections(self) -> None:
        """Close all TCP connections without a close frame, as a failing network does.

        When this method returns, the attached instances are detached (as Pie 0.5: ended; as ``"0.3"`` or
        ``"0.4"``: bound to their connection for ever). On the instance protocol, standard output and error that
        were not sent are kept until a client attaches. Blocks for up to a second for each client that does not
        read.
        """
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.drop()

    def lose(self, *, ends: int = 0, first_outputs: int = 0) -> None:
        """Lose the ends or the first outputs of the next instances, as real servers sometimes do. Never blocks.

        Every generation of servers starts a program before the server has registered its instance; what the
        program says until then is lost. An instance that lost its end was still recorded in :attr:`instances`. On
        the instance protocol the server has forgotten that instance: attaching to it is answered ``Instance not
        found``. On the process protocol the server goes on listing that instance until a client terminates it.

        A later call replaces the numbers.

        Args:
            ends: the number of instances whose end is lost: the next ones that are launched.
            first_outputs: the number of instances whose first output is lost, if the program sends any before its
                end; on the instance protocol the first message or blob, since text that is printed is not lost.
        """
        if ends < 0 or first_outputs < 0:
            raise PieValueError(f"ends and first_outputs must be 0 or more, not {ends!r} and {first_outputs!r}")
        self._core.lose(ends, first_outputs)

    def delay(self, seconds: float) -> None:
        """Delay everything that is sent from now on, over every connection, as a slow server does. Never blocks.

        The delay applies to answers and events, which keep their order. Requests are carried out without delay,
        and programs run until 1 MiB of their output is queued. Upgrade requests and WebSocket pings are answered
        without delay. If a connection is dropped, delayed messages count as not sent.

        A later call replaces the delay, also for messages that are delayed at that moment.

        Args:
            seconds: 0 or more; 0 ends the delay and sends the delayed messages. ``math.inf`` sends nothing until
                the next call.

        Raises:
            PieValueError: ``seconds`` is negative or not a number.
        """
        if not seconds >= 0:
            raise PieValueError(f"a delay must be 0 seconds or more, not {seconds!r}")
        with self._lock:
            self._delay = seconds
            if not self._core.closing.is_set():
                for client in self._clients:
                    client.set_delay(seconds)

    def _serve(self, connection: Connection) -> None:
        client = Client(
            connection, self._profile.encode, lambda channel: self._profile.new_dialect(self._core, channel)
        )
        with self._lock:
            self._clients.add(client)
            if not self._core.closing.is_set():
                client.set_delay(self._delay)
        number = next(self._numbers)
        activity.info("connection %d from %s", number, _peer(connection))
        try:
            client.serve()
        finally:
            activity.info("connection %d has ended", number)
            with self._lock:
                self._clients.discard(client)


def _peer(connection: Connection) -> str:
    """Return the address of a client, for people."""
    try:
        return str(connection.remote_address[0])
    except OSError:
        return "a client that is gone already"
