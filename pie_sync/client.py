"""The blocking client."""

from __future__ import annotations

import base64
import threading
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Any, Callable

from ._arguments import check_args, check_challenge, check_hash, check_headers, check_size, check_uri
from ._deadline import DEFAULT, Default, Timeout, check_timeout, deadline_after, remaining
from ._protocol.instance import InstanceProtocol
from ._protocol.messages import Answer, InstanceList
from ._session import Session
from ._transfer import open_payload
from ._websocket import Connector
from .errors import (
    AttachError,
    AuthenticationError,
    LaunchError,
    PieConnectionError,
    PieTimeoutError,
    RequestError,
    TerminateError,
)
from .events import InstanceInfo, QueryResult
from .instance import Instance

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from ._transfer import PayloadSource
    from ._upload import ChunkHead, Progress
    from .keys import ParsedPrivateKey

__all__ = ["PieClient"]

_MIB = 1024 * 1024


class PieClient:
    """A connection to a Pie server, for programs without an event loop.

    Use it as a context manager, or call :meth:`connect` and :meth:`close`::

        with PieClient("ws://127.0.0.1:8080") as client:
            client.authenticate("alice", ParsedPrivateKey.from_file("~/.ssh/id_ed25519"))
            instance = client.launch_instance(client.upload_program("my_program.wasm"))
            for event, data in instance:
                print(event.name, data)

    Every method blocks until the server has answered, at most for its ``timeout``. Every method may be called
    from any thread, also at the same time. One background thread reads from the connection.

    A client does not cross a ``fork()``, and can't be pickled: make one in each process.

    Args:
        server_uri: ``ws://host:port`` or ``wss://host:port``.
        timeout: the time limit of every request that isn't given one of its own, in seconds; for uploads the
            longest time without progress. None is without limit.
        connect_timeout: the time limit of :meth:`connect`, in seconds. None is without limit.
        ping_interval: after how many seconds of silence the connection is tested with a WebSocket ping. None:
            never, so that a server that vanishes without a word is noticed only by time limits.
        ping_timeout: how many seconds of silence after such a ping mean that the connection is lost. None: any
            number.
        ssl_context: for ``wss://``. None, the default, verifies the certificate and the host name against the
            authorities that the system trusts.
        headers: more HTTP headers for the WebSocket upgrade, for a proxy in front of the server.
        max_message_size: the most bytes of one message from the server; a bigger one ends the connection.
        max_blob_size: the most bytes of one blob from an instance, and of all incomplete ones together; a bigger
            one is an error on that instance.

    Raises:
        ValueError, TypeError: an argument makes no sense.
    """

    def __init__(
        self,
        server_uri: str,
        *,
        timeout: float | None = 30.0,
        connect_timeout: float | None = 10.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        ssl_context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        max_message_size: int = 64 * _MIB,
        max_blob_size: int = 1024 * _MIB,
    ) -> None:
        # First, so that __del__ finds it even when the arguments below are refused.
        self._session: Session | None = None
        self._server_uri = check_uri(server_uri)
        self._timeout = check_timeout(timeout)
        self._connect_timeout = check_timeout(connect_timeout, "connect_timeout")
        self._ssl_context = ssl_context
        self._headers = check_headers(headers or {})
        self._max_blob_size = check_size(max_blob_size, "max_blob_size")
        self._websocket_options = {
            "max_message_size": check_size(max_message_size, "max_message_size"),
            "ping_interval": check_timeout(ping_interval, "ping_interval"),
            "ping_timeout": check_timeout(ping_timeout, "ping_timeout"),
        }
        self._protocol = InstanceProtocol()
        # Serialises connect() and close().
        self._life_lock = threading.RLock()
        # Serialises authentication: a connection has one user.
        self._authentication_lock = threading.Lock()
        self._authenticated_as: str | None = None

    # --- the connection ---------------------------------------------------------------------------------

    @property
    def server_uri(self) -> str:
        """The URI that the client was made with."""
        return self._server_uri

    @property
    def closed(self) -> bool:
        """Whether there is no connection: not yet, not any more, or lost."""
        return self._session is None or self._session.lost is not None

    def connect(self) -> None:
        """Connect to the server. Does nothing if there is a connection. Blocks for up to ``connect_timeout``.

        After :meth:`close`, or when the connection was lost, it makes a new one, on which to authenticate anew.

        Raises:
            PieConnectionError: the server can't be reached, or is no WebSocket server.
            PieConnectTimeoutError: not in time (also a ``TimeoutError``).
        """
        with self._life_lock:
            if not self.closed:
                return
            connector = Connector(
                self._server_uri,
                timeout=self._connect_timeout,
                headers=self._headers,
                ssl_context=self._ssl_context,
            )
            session = Session(
                connector,
                self._protocol,
                websocket_options=self._websocket_options,
                max_blob_size=self._max_blob_size,
            )
            session.open(self._connect_timeout)
            self._session = session
            self._authenticated_as = None

    def close(self) -> None:
        """Close the connection. Idempotent. Blocks for 2 seconds at the most, whatever the server does.

        Whatever waits in other threads ends with ``PieConnectionError``. Instances go on running on the server;
        on the instance protocol another connection can attach to them.
        """
        with self._life_lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()

    def __enter__(self) -> PieClient:
        self.connect()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self.closed or self._session is None:
            return
        warnings.warn(f"unclosed {self!r}: use 'with' or close()", ResourceWarning, source=self, stacklevel=2)
        # Without the closing handshake: a finalizer runs anywhere, and must not wait.
        self._session.abort()

    def __repr__(self) -> str:
        return f"<PieClient {self._server_uri} {'closed' if self.closed else 'connected'}>"

    def __reduce__(self) -> Any:
        raise TypeError("a PieClient can't be pickled: make one in each process")

    def _connected(self, method: str) -> Session:
        session = self._session
        if session is None:
            raise PieConnectionError(
                f"{method}: the client is not connected: call connect(), or use 'with PieClient(...) as client'"
            )
        return session

    def _authenticated(self, method: str) -> Session:
        """The session, once it may be used: before, the server would hang up without a word."""
        session = self._connected(method)
        session.check()
        if self._authenticated_as is None:
            raise AuthenticationError(f"{method}: authenticate first: client.authenticate(username, private_key)")
        return session

    def _limit(self, timeout: Timeout) -> float | None:
        return self._timeout if isinstance(timeout, Default) else check_timeout(timeout)

    def _request(
        self,
        session: Session,
        method: str,
        encode: Callable[[int], bytes],
        timeout: float | None,
        **options: Any,
    ) -> Answer:
        answer = session.call(method, encode, timeout, **options)
        assert isinstance(answer, Answer)
        return answer

    # --- who we are -------------------------------------------------------------------------------------

    def authenticate(
        self, username: str, private_key: ParsedPrivateKey | None = None, *, timeout: Timeout = DEFAULT
    ) -> None:
        """Tell the server who you are, and prove it if it wants to see that. Comes before everything else.

        Again with the same name it does nothing; a connection can't change its user.

        Args:
            username: the name under which the server knows your public key.
            private_key: signs the server's challenge: at most once, and only if the challenge is 16 to 64 bytes
                long (a longer one could be something else that a hostile server wants signed). May be None for
                servers that don't demand it.
            timeout: seconds for all of it; None is without limit; default: the client's ``timeout``.

        Raises:
            AuthenticationError: the server does not know you, wants a key, or refuses the signature.
            ProtocolError: the challenge makes no sense, and was not signed.
            PieTimeoutError: not in time.
            PieConnectionError: the connection is lost.
        """
        if not isinstance(username, str):
            raise TypeError(f"username must be a str, not {type(username).__name__}")
        if private_key is not None and not hasattr(private_key, "sign"):
            raise TypeError(
                f"private_key must be a ParsedPrivateKey, not {type(private_key).__name__}:"
                " load it with ParsedPrivateKey.from_file(path)"
            )
        session = self._connected("authenticate")
        limit = self._limit(timeout)
        deadline = deadline_after(limit)
        with self._authentication_lock:
            if self._authenticated_as is not None:
                if self._authenticated_as != username:
                    raise AuthenticationError(
                        f"this connection is already authenticated as {self._authenticated_as!r}:"
                        f" use another PieClient for {username!r}"
                    )
                return
            answer = self._request(
                session,
                "authenticate",
                lambda corr_id: self._protocol.identify(corr_id, username),
                limit,
                kinds=("response", "challenge"),
            )
            if not answer.ok:
                raise AuthenticationError(f"the server refuses {username!r}: {answer.text}")
            if answer.kind == "challenge" or answer.text != self._protocol.AUTHENTICATION_DISABLED:
                self._prove(session, username, private_key, answer.text, deadline)
            self._authenticated_as = username

    def _prove(
        self,
        session: Session,
        username: str,
        private_key: ParsedPrivateKey | None,
        challenge: str,
        deadline: float | None,
    ) -> None:
        if challenge == self._protocol.ALREADY_AUTHENTICATED:
            raise AuthenticationError("the server says that this connection is authenticated already")
        if private_key is None:
            raise AuthenticationError(
                f"the server wants {username!r} to sign a challenge: pass"
                " private_key=ParsedPrivateKey.from_file(path)"
            )
        signature = base64.b64encode(private_key.sign(check_challenge(challenge))).decode()
        left = remaining(deadline)
        answer = self._request(
            session,
            "authenticate",
            lambda corr_id: self._protocol.prove(corr_id, signature),
            None if left < 0 else left,
        )
        if not answer.ok:
            raise AuthenticationError(f"the server refuses the signature for {username!r}: {answer.text}")

    def internal_authenticate(self, token: str, *, timeout: Timeout = DEFAULT) -> None:
        """Authenticate with the token that a server shares with its own parts, instead of :meth:`authenticate`.

        Args:
            token: the token. It travels as it is: over ``ws://`` everybody on the way can read it.
            timeout: seconds; None is without limit; default: the client's ``timeout``. A wrong token is answered
                only after 1 to 3 s, and then the server hangs up.

        Raises:
            AuthenticationError: the token is wrong.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        if not isinstance(token, str):
            raise TypeError(f"token must be a str, not {type(token).__name__}")
        session = self._connected("internal_authenticate")
        with self._authentication_lock:
            if self._authenticated_as is not None:
                raise AuthenticationError(
                    f"this connection is already authenticated as {self._authenticated_as!r}:"
                    " use another PieClient"
                )
            answer = self._request(
                session,
                "internal_authenticate",
                lambda corr_id: self._protocol.authenticate_by_token(corr_id, token),
                self._limit(timeout),
            )
            if not answer.ok:
                raise AuthenticationError(f"the server refuses the token: {answer.text}")
            self._authenticated_as = "(internal)"

    # --- programs ---------------------------------------------------------------------------------------

    def upload_program(
        self, program: PayloadSource, *, progress: Progress = None, timeout: Timeout = DEFAULT
    ) -> str:
        """Upload a program. Blocks until the server has it, and has compiled it.

        Uploads of programs over one connection take turns: a server has one place for them.

        Args:
            program: a WebAssembly program: bytes-like, a path, or a binary file object (sent from its position
                to its end). Files are read piecewise, twice, the first time for their hash.
            progress: called as ``progress(sent_bytes, total_bytes)`` after each chunk of 256 KiB, in this
                thread. What it raises ends the upload.
            timeout: seconds for the whole call; None is without limit. Default: the client's ``timeout``, as
                the longest time *without progress*.

        Returns:
            The program's BLAKE3 hash, 64 hexadecimal digits: what :meth:`launch_instance` takes.

        Raises:
            UploadError: the server refused it.
            PieTimeoutError: it was not done in time.
            PieConnectionError: the connection is lost. A server that can't compile the program does that.
            OSError: the file can't be read.
        """
        session = self._authenticated("upload_program")
        deadline = None if isinstance(timeout, Default) else deadline_after(check_timeout(timeout))
        with open_payload(program) as payload:

            def head(corr_id: int, index: int, total: int, size: int) -> bytes:
                return self._protocol.program_chunk(corr_id, payload.hash, index, total, size)

            try:
                self._upload(session, "upload_program", payload, head, "program", progress, timeout, deadline)
            except PieConnectionError as error:
                raise PieConnectionError(
                    f"{error}, during upload_program: a server also does this when it can't compile the program"
                ) from error
            return payload.hash

    def _upload(
        self,
        session: Session,
        method: str,
        payload: Any,
        head: ChunkHead,
        turn: str,
        progress: Progress,
        timeout: Timeout,
        deadline: float | None,
    ) -> None:
        left = remaining(deadline)
        session.uploader.upload(
            method,
            payload,
            head,
            turn=turn,
            timeout=self._timeout if isinstance(timeout, Default) else None if left < 0 else left,
            stall=isinstance(timeout, Default),
            progress=progress,
        )

    def program_exists(self, program_hash: str, *, timeout: Timeout = DEFAULT) -> bool:
        """Ask whether the server has a program.

        Args:
            program_hash: its BLAKE3 hash, as :meth:`upload_program` returns it.
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            RequestError: the server can't tell.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        program_hash = check_hash(program_hash)
        session = self._authenticated("program_exists")
        deadline = deadline_after(self._limit(timeout))
        # By hash first, then by the name that upload_program() gives to programs: there are servers of both
        # kinds (protocol: "Two variants").
        answers = []
        for encode in (self._protocol.program_exists, self._protocol.named_program_exists):
            left = remaining(deadline)
            answer = self._request(
                session,
                "program_exists",
                lambda corr_id, encode=encode: encode(corr_id, program_hash),  # type: ignore[misc]
                None if left < 0 else left,
            )
            if answer.ok and answer.text == "true":
                return True
            answers.append(answer)
        if not any(answer.ok for answer in answers):
            raise RequestError("program_exists", answers[0].text)
        return False

    # --- instances --------------------------------------------------------------------------------------

    def launch_instance(
        self,
        program_hash: str,
        args: Sequence[str] = (),
        detached: bool = False,
        *,
        timeout: Timeout = DEFAULT,
    ) -> Instance:
        """Launch an uploaded program. Blocks until the server says that it runs.

        Args:
            program_hash: what :meth:`upload_program` returned.
            args: the program's command-line arguments.
            detached: don't attach this connection to it. The server keeps its output until somebody attaches.
            timeout: seconds; None is without limit; default: the client's ``timeout``. If the answer comes too
                late, the instance runs all the same, attached to this connection: find it with
                :meth:`list_instances`, and :meth:`attach_instance` takes it over, with all its events.

        Raises:
            LaunchError: the server refused, for instance because it doesn't have the program.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        program_hash = check_hash(program_hash)
        arguments = check_args(args)
        return self._launch(
            "launch_instance",
            lambda corr_id: self._protocol.launch(corr_id, program_hash, arguments, bool(detached)),
            detached,
            timeout,
        )

    def launch_instance_from_registry(
        self, name: str, args: Sequence[str] = (), detached: bool = False, *, timeout: Timeout = DEFAULT
    ) -> Instance:
        """Launch a program that the server finds by its name. Blocks until the server says that it runs.

        Args:
            name: ``[namespace/]name[@version]``; the defaults are ``std`` and ``latest``.
            args: see :meth:`launch_instance`.
            detached: see :meth:`launch_instance`.
            timeout: see :meth:`launch_instance`. A server may have to download the program first.

        Raises:
            LaunchError: the server refused, for instance because there is no such program.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        if not isinstance(name, str):
            raise TypeError(f"name must be a str, not {type(name).__name__}")
        if not name:
            raise ValueError("name must not be empty")
        arguments = check_args(args)
        return self._launch(
            "launch_instance_from_registry",
            lambda corr_id: self._protocol.launch_from_registry(corr_id, name, arguments, bool(detached)),
            detached,
            timeout,
        )

    def _launch(self, method: str, encode: Callable[[int], bytes], detached: bool, timeout: Timeout) -> Instance:
        session = self._authenticated(method)
        answer = self._request(
            session,
            method,
            encode,
            self._limit(timeout),
            kinds=("instance_launch_result",),
            on_granted=None if detached else lambda answer: session.add_instance(answer.text),
        )
        if not answer.ok:
            raise LaunchError(method, answer.text)
        return Instance(self, session, answer.text, None if detached else session.claim(answer.text))

    def attach_instance(self, instance_id: str, *, timeout: Timeout = DEFAULT) -> Instance:
        """Attach to an instance that is detached, or has finished while it was. Blocks until the server answers.

        The new :class:`Instance` gets all output that the server has kept, then what comes.

        Args:
            instance_id: the :attr:`Instance.id` of one of your instances.
            timeout: seconds; None is without limit; default: the client's ``timeout``. If the answer comes too
                late, call it again: what came with the answer is kept.

        Raises:
            AttachError: there is no such instance, or a connection is attached to it (perhaps this one).
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        if not isinstance(instance_id, str):
            raise TypeError(
                f"instance_id must be a str, not {type(instance_id).__name__}: instances have it in .id"
            )
        session = self._authenticated("attach_instance")
        unclaimed = session.claim(instance_id)
        if unclaimed is not None:
            return Instance(self, session, instance_id, unclaimed)
        answer = self._request(
            session,
            "attach_instance",
            lambda corr_id: self._protocol.attach(corr_id, instance_id),
            self._limit(timeout),
            kinds=("instance_attach_result",),
            on_granted=lambda _: session.add_instance(instance_id),
        )
        if not answer.ok:
            raise AttachError("attach_instance", answer.text)
        return Instance(self, session, instance_id, session.claim(instance_id))

    def list_instances(self, *, timeout: Timeout = DEFAULT) -> list[InstanceInfo]:
        """Return what the server knows of your instances: the running ones, and those that finished detached.

        Args:
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            RequestError: the server refused.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        session = self._authenticated("list_instances")
        answer = session.call(
            "list_instances", self._protocol.list, self._limit(timeout), kinds=("live_instances",)
        )
        if isinstance(answer, InstanceList):
            return list(answer.instances)
        raise RequestError("list_instances", answer.text)

    def terminate_instance(self, instance_id: str, *, timeout: Timeout = DEFAULT) -> None:
        """Ask the server to end an instance, attached or not: its last event will be :attr:`Event.Aborted`.

        Blocks until the server has taken note. There being no such instance is no error: the server does not
        tell (instance protocol, ``terminate_instance``).

        Args:
            instance_id: its :attr:`Instance.id`.
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            TerminateError: it isn't the id of an instance at all.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        if not isinstance(instance_id, str):
            raise TypeError(
                f"instance_id must be a str, not {type(instance_id).__name__}: instances have it in .id"
            )
        self._terminate(self._authenticated("terminate_instance"), instance_id, timeout)

    # --- called by Instance: on the session that it belongs to, which may not be the client's any more ------

    def _terminate(self, session: Session, instance_id: str, timeout: Timeout) -> None:
        answer = self._request(
            session,
            "terminate_instance",
            lambda corr_id: self._protocol.terminate(corr_id, instance_id),
            self._limit(timeout),
        )
        if not answer.ok:
            raise TerminateError("terminate_instance", answer.text)

    def _send_to_instance(self, session: Session, instance_id: str, message: str, timeout: Timeout) -> None:
        if not isinstance(message, str):
            raise TypeError(f"message must be a str, not {type(message).__name__}: bytes go through upload_blob()")
        session.send(self._protocol.signal(instance_id, message), deadline=deadline_after(self._limit(timeout)))

    def _upload_blob(
        self, session: Session, instance_id: str, blob: PayloadSource, progress: Progress, timeout: Timeout
    ) -> None:
        session.check()
        deadline = None if isinstance(timeout, Default) else deadline_after(check_timeout(timeout))
        with open_payload(blob) as payload:

            def head(corr_id: int, index: int, total: int, size: int) -> bytes:
                return self._protocol.blob_chunk(corr_id, instance_id, payload.hash, index, total, size)

            # Servers keep blobs apart by their hash alone: the same bytes twice at once would break each other.
            turn = f"blob {payload.hash}"
            self._upload(session, "upload_blob", payload, head, turn, progress, timeout, deadline)

    # --- the server -------------------------------------------------------------------------------------

    def ping(self, *, timeout: Timeout = DEFAULT) -> float:
        """Ask the server for an answer.

        Args:
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Returns:
            How long it took, in seconds.

        Raises:
            RequestError: the server refused.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        session = self._authenticated("ping")
        begin = perf_counter()
        answer = self._request(session, "ping", self._protocol.ping, self._limit(timeout))
        if not answer.ok:
            raise RequestError("ping", answer.text)
        return perf_counter() - begin

    def query(self, subject: str, record: str, *, timeout: Timeout = DEFAULT) -> QueryResult:
        """Ask the server for something by its name.

        Args:
            subject: what: ``model_status`` (JSON), ``backend_stats`` (text), ``program_exists``. **Servers never
                answer a subject that they don't know**: the call then ends with its time limit.
            record: of which: the hash for ``program_exists``, else ``""``.
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Returns:
            (successful, result): whether the server could answer, and its answer.

        Raises:
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        for name, value in (("subject", subject), ("record", record)):
            if not isinstance(value, str):
                raise TypeError(f"{name} must be a str, not {type(value).__name__}")
        session = self._authenticated("query")
        try:
            answer = self._request(
                session,
                "query",
                lambda corr_id: self._protocol.query(corr_id, subject, record),
                self._limit(timeout),
            )
        except PieTimeoutError as error:
            raise PieTimeoutError(f"{error}: servers never answer a subject that they don't know") from error
        return QueryResult(answer.ok, answer.text)
