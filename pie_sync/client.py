"""The blocking client."""

from __future__ import annotations

import os
from pathlib import Path
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Callable, Literal, TypeVar, cast, overload

from ._connection.instances import attach, find_detached, list_instances, new_tag, terminate
from ._connection.manager import ConnectionManager
from ._connection.manifest import Manifest
from ._connection.settings import ClientSettings, Given, UserKey
from ._connection.validation import (
    Arguments,
    check_args,
    check_hash,
    check_hash_or_name,
    check_headers,
    check_identity,
    check_name,
    check_protocol,
    check_size,
    check_text,
    check_uri,
    is_confidential,
)
from ._functions.function_program import function_program
from ._functions.inferlet import Inferlet
from ._protocol import ProcessProtocol
from ._protocol.messages import Answer
from ._runs.launcher import RecentLaunchers
from ._runs.map import map_
from ._runs.program_reference import GivenProgram
from ._runs.run import run
from ._session.payloads import open_payload
from ._session.unclaimed import Attachment
from ._support.counters import ClientStats
from ._support.time_limits import DEFAULT, TimeLimit, Timeout, check_timeout
from .errors import (
    AttachError,
    AuthenticationError,
    LaunchError,
    PieError,
    PieTimeoutError,
    PieValueError,
    RequestError,
)
from .events import CompletedInstance, InstanceInfo, LaunchRecord, QueryResult
from .instance import Instance
from .keys import ParsedPrivateKey

if TYPE_CHECKING:
    import os
    import ssl
    from collections.abc import Coroutine, Iterable, Mapping
    from types import TracebackType

    from ._connection.manager import Connection
    from ._connection.manifest import ManifestSource
    from ._functions.function_program import RemoteFunction
    from ._runs.program_reference import KnownProgram, Program
    from ._runs.progress import ProgressOption
    from ._runs.results import Results
    from ._runs.run import Input, OnEvent
    from ._session.payloads import PayloadSource
    from ._session.uploads import Progress

__all__ = ["PieClient"]

R = TypeVar("R")

_MIB = 1024 * 1024


class PieClient:
    """A connection to a Pie server, for programs without an event loop.

    Use it as a context manager, or call :meth:`connect` and :meth:`close`::

        with PieClient("ws://127.0.0.1:8080") as client:
            client.authenticate("alice", "~/.ssh/id_ed25519")
            instance = client.launch_instance(client.upload_program("my_program.wasm"))
            for event, data in instance:
                print(event.name, data)

    Every method blocks until the server has answered, at most for its ``timeout``. Every method may be called
    from any thread, also at the same time. One background thread reads from the connection.

    A client does not cross a ``fork()``, and can't be pickled: make one in each process.

    Args:
        server_uri: ``ws://host:port`` or ``wss://host:port``. Without a path, the server's usual one is found; a
            path is kept as it is.
        timeout: the time limit of every request that isn't given one of its own, in seconds; for uploads the
            longest time without progress. None is without limit.
        connect_timeout: the time limit of :meth:`connect`, in seconds. None is without limit.
        ping_interval: after how many seconds of silence the connection is tested with a WebSocket ping. None:
            never. Then a host that vanishes is noticed by TCP's keep-alive, after a minute, while nothing of ours
            is on its way to it, and else by time limits alone.
        ping_timeout: how many seconds of silence after such a ping mean that the connection is lost. None: any
            number. This is for a server that stalls: long, since Pie 0.5 ends the instances of a connection that
            it loses. A host that has vanished is noticed sooner: when its system has not even acknowledged the
            ping for 40 s (on Linux, Windows and macOS), or after a minute by TCP's keep-alive.
        ssl_context: for ``wss://``. None, the default, verifies the certificate and the host name against the
            authorities that the system trusts.
        headers: more HTTP headers for the WebSocket upgrade, for a proxy in front of the server.
        max_message_size: the most bytes of one message from the server; a bigger one ends the connection.
        max_blob_size: the most bytes of one blob from an instance, and of all incomplete ones together; a bigger
            one is an error on that instance.
        max_buffered_bytes: the most memory, in bytes, for events that nobody has consumed yet, over all instances
            and all connections of this client. Further events wait in unnamed temporary files, and are read back
            in order, some 64 KiB of an instance at a time. If there is no place for such files, the fullest
            instances lose their newest events, but not their end: a PieError in their place says how many.
        reconnect: when the connection is lost, connect again, authenticate as before, and attach to the instances
            that it had, so that receiving from them goes on where it was. Requests that were waiting for an
            answer fail all the same (they may have happened); new ones wait for the connection. Only servers up to
            Pie 0.2 let an instance be attached to again. Pie 0.3 and 0.4 leave it running, but bound to the lost
            connection, and only :meth:`terminate_instance` ends it; Pie 0.5 ends it. Receiving from such an
            instance raises a ``PieConnectionError`` that says which of the two it is.
        reconnect_timeout: for how many seconds to try that, with growing pauses, also while the server believes an
            instance attached to the old connection. None is without limit (for such an instance: 60 s).
        protocol: which generation of the protocol to speak: ``"instance"`` (Pie up to 0.2), ``"process"`` (Pie
            0.3 to 0.5), or ``"auto"``, the default, which detects it; :attr:`protocol` has the result.
        identity: sent to Pie 0.5 as the header ``x-pie-identity``, in the form ``tenant/name``. Not sent to other
            servers.

    Raises:
        PieValueError, TypeError: an argument is invalid.
    """

    def __init__(
        self,
        server_uri: str,
        *,
        timeout: float | None = 30.0,
        connect_timeout: float | None = 10.0,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 120.0,
        ssl_context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
        max_message_size: int = 64 * _MIB,
        max_blob_size: int = 1024 * _MIB,
        max_buffered_bytes: int = 64 * _MIB,
        reconnect: bool = False,
        reconnect_timeout: float | None = 60.0,
        protocol: str = "auto",
        identity: str = "default/pie-sync",
    ) -> None:
        self._server_uri = check_uri(server_uri)
        self._launchers = RecentLaunchers()
        self._manager = ConnectionManager(
            self._server_uri,
            timeout=check_timeout(timeout),
            connect_timeout=check_timeout(connect_timeout, "connect_timeout"),
            ssl_context=ssl_context,
            headers=check_headers(headers or {}),
            websocket_options={
                "max_message_size": check_size(max_message_size, "max_message_size"),
                "ping_interval": check_timeout(ping_interval, "ping_interval", zero="None: never"),
                "ping_timeout": check_timeout(ping_timeout, "ping_timeout", zero="None: no limit"),
            },
            max_blob_size=check_size(max_blob_size, "max_blob_size"),
            max_buffered_bytes=check_size(max_buffered_bytes, "max_buffered_bytes"),
            reconnect=bool(reconnect),
            reconnect_timeout=check_timeout(
                reconnect_timeout, "reconnect_timeout", zero="reconnect=False does not try at all"
            ),
            protocol=check_protocol(protocol),
            identity=check_identity(identity),
        )

    @classmethod
    def from_env(
        cls,
        profile: str | None = None,
        *,
        password: str | bytes | None = None,
        config: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> PieClient:
        """Return a client that is connected and authenticated as the command ``pie-sync`` would be.

        Address, user name, key and identity come from the environment (``PIE_URI``, ``PIE_USERNAME``, ``PIE_KEY``,
        ``PIE_IDENTITY``), else from the configuration file, ``~/.pie/cli_config.toml`` (or ``cli_config.toml`` in
        the folder that ``PIE_CLI_HOME`` names), else they are ``ws://127.0.0.1:8080``, the login name, the first
        key in ``~/.ssh`` and ``default/pie-sync``. ``pie-sync config show`` shows them. The key is read only if
        the server asks for a signature.

        Blocks for up to ``connect_timeout`` and then ``timeout``. Close the client after use, or use ``with``.

        Args:
            profile: the name of a profile in the configuration file. Its values come before the environment. None:
                the one that ``PIE_PROFILE`` names, whose values come behind the environment; else none.
            password: the password of the key, if it is encrypted.
            config: the path of another configuration file.
            options: more arguments of :class:`PieClient`.

        Raises:
            PieValueError: a setting is not valid, or there is no such profile.
            AuthenticationError: the server refuses the user, or asks for a key and there is none.
            InvalidKeyError: the key can't be used.
            PieTimeoutError: no answer in time.
            PieConnectionError: the server can't be reached.
            OSError: the configuration file or the key can't be read.
        """
        given = Given(profile=profile, config=None if config is None else Path(config))
        settings = ClientSettings.find(given)
        if not settings.username.value:
            raise PieValueError(settings.username.origin, "the variable PIE_USERNAME says who you are")
        client = cls(settings.uri.value, **{"identity": settings.identity.value, **options})
        try:
            client.connect()
            client.authenticate(settings.username.value, cast("ParsedPrivateKey", UserKey(settings, password)))
        except BaseException:
            client.close()
            raise
        return client

    # --- the connection ---------------------------------------------------------------------------------

    @property
    def server_uri(self) -> str:
        """The URI that the client was made with."""
        return self._server_uri

    @property
    def closed(self) -> bool:
        """Whether there is no connection: not yet, not any more, or lost (and not being restored)."""
        return self._manager.closed

    @property
    def protocol(self) -> str | None:
        """Which generation of the protocol the server speaks: ``"instance"`` or ``"process"``.

        None while it isn't known: it shows in :meth:`connect` for Pie 0.5, else in :meth:`authenticate`.
        """
        connection = self._manager.connection
        return None if connection is None else connection.session.protocol_name

    def connect(self) -> None:
        """Connect to the server. Does nothing if there is a connection. Blocks for up to ``connect_timeout``.

        After :meth:`close`, or when the connection was lost, it makes a new one, on which to authenticate anew.

        Raises:
            PieConnectionError: the server can't be reached, or is no WebSocket server.
            PieConnectTimeoutError: not in time (also a ``TimeoutError``).
        """
        self._manager.connect()

    def close(self) -> None:
        """Close the connection. Idempotent. Blocks for 2 seconds at the most, whatever the server does.

        Whatever waits in other threads ends with ``PieConnectionError``. Instances go on running, and on servers
        up to Pie 0.2 another connection can attach to them. Of the instances that this connection is attached to,
        Pie 0.3 and 0.4 let nobody attach to any again (:meth:`terminate_instance` ends them), and Pie 0.5 ends
        them.
        """
        self._manager.close()

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

    def __repr__(self) -> str:
        return repr(self._manager)

    def __reduce__(self) -> Any:
        raise TypeError("a PieClient can't be pickled: make one in each process")

    # --- who we are -------------------------------------------------------------------------------------

    def authenticate(
        self,
        username: str,
        private_key: ParsedPrivateKey | str | os.PathLike[str] | None = None,
        *,
        timeout: Timeout = DEFAULT,
    ) -> None:
        """Authenticate, signing the server's challenge if it sends one. Call this before any other request.

        A second call with the same name does nothing; a connection can't change its user. After a failure call it
        again: servers up to Pie 0.2 then want a new connection, which is made first (:meth:`connect`).

        Args:
            username: the name under which the server knows your public key.
            private_key: signs the server's challenge: at most once, and only if the challenge is 16 to 64 bytes
                long (a longer one could be something else that a hostile server wants signed). A key, or the path
                of a key file without a password, or ``"agent"`` for the first key of the SSH agent. None for
                servers that send no challenge.
            timeout: seconds for all of it; None is without limit; default: the client's ``timeout``.

        Raises:
            AuthenticationError: the server does not know you, wants a key, or refuses the signature.
            ProtocolError: the challenge is malformed, and was not signed.
            InvalidKeyError: the key can't be used.
            PieTimeoutError: not in time.
            PieConnectionError: the connection is lost.
            OSError: the key file can't be read.
        """
        check_text(username, "username")
        key = _load_key(private_key)
        connection = self._manager.unauthenticated("authenticate")
        connection.authentication.identify(username, key, self._manager.limit(timeout))

    def internal_authenticate(
        self, token: str, *, allow_insecure_token: bool = False, timeout: Timeout = DEFAULT
    ) -> None:
        """Authenticate with the token that a server shares with its own parts, instead of :meth:`authenticate`.

        Args:
            token: the token. It travels as it is.
            allow_insecure_token: send it also over ``ws://`` to another machine, where everybody on the way can
                read it. Without this, that is refused.
            timeout: seconds; None is without limit; default: the client's ``timeout``. A wrong token is answered
                only after 1 to 3 s, and then the server hangs up.

        Raises:
            AuthenticationError: the token is wrong, or the server has none (Pie 0.5), or it would be readable on
                its way.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        check_text(token, "token")
        if not allow_insecure_token and not is_confidential(self._server_uri):
            raise AuthenticationError(
                f"the token would be readable on its way to {self._server_uri}: use wss://,"
                " or pass allow_insecure_token=True"
            )
        self._manager.unauthenticated("internal_authenticate").authentication.by_token(
            token, self._manager.limit(timeout)
        )

    # --- programs ---------------------------------------------------------------------------------------

    def upload_program(
        self,
        program: PayloadSource,
        *,
        manifest: ManifestSource | None = None,
        overwrite: bool = False,
        progress: Progress = None,
        timeout: Timeout = DEFAULT,
    ) -> str:
        """Upload a program. Blocks until the server has it, and has compiled it.

        Uploads of programs over one connection take turns: a server has one place for them.

        Args:
            program: a WebAssembly component, or on Pie 0.5 a script with a manifest that says so: bytes-like, a
                path, or a binary file object (sent from its position to its end). Files are read piecewise, twice,
                the first time for their hash. (For Pie 0.3 and 0.4 a component is held in memory.)
            manifest: the program's manifest, as TOML text or as a path. With it the program can also be launched
                by its own ``name@version`` (:meth:`launch_instance_from_registry`). On servers up to Pie 0.2 that
                name is ``namespace/name@version``; where programs are named by their hash it works from this
                client only, and what else a manifest says means nothing. For Pie 0.3 and 0.4 the name must be the
                one in the component's export ``pie:NAME/run``.
            overwrite: on the process protocol: send it in any case, and replace what has its ``name@version``.
                Without it other bytes there are an error, and to upload the same ones again costs nothing. (This
                client launches what it uploaded by that name, also if somebody else replaces it.)
            progress: called as ``progress(sent_bytes, total_bytes)`` after each chunk of 256 KiB, in this
                thread. What it raises ends the upload.
            timeout: seconds for the whole call; None is without limit. Default: the client's ``timeout``, as
                the longest time *without progress*.

        Returns:
            The program's BLAKE3 hash, 64 hexadecimal digits: what :meth:`launch_instance` takes.

        Raises:
            UploadError: the server refused it, or the name is taken, or does not fit the component. Pie 0.2.0, and
                a server from 0.4 on, keeps what it can't compile: :meth:`program_exists` is true of that, and
                launches are refused.
            PieValueError: the manifest can't be used.
            PieTimeoutError: it was not done in time.
            PieConnectionError: the connection is lost. A server up to 0.2 does that when it can't compile it.
            OSError: a file can't be read.
        """
        limit = self._manager.limit(timeout, for_upload=True)
        connection = self._manager.authenticated("upload_program", limit)
        loaded = None if manifest is None else Manifest.load(manifest)
        with open_payload(program) as payload:
            connection.programs.upload(payload, loaded, overwrite=overwrite, limit=limit, progress=progress)
            return payload.hash

    def program_exists(
        self,
        program_hash: str | Inferlet[..., Any] | RemoteFunction | Callable[..., Any],
        *,
        timeout: Timeout = DEFAULT,
    ) -> bool:
        """Ask whether the server has a program.

        True also of a program that the server keeps though it could not compile it (Pie 0.2.0 by name, 0.3, which
        compiles at the launch, 0.4 and 0.5): its launches are refused.

        Args:
            program_hash: its BLAKE3 hash, as :meth:`upload_program` returns it; or its ``name@version``; or a
                function, as :meth:`run` takes it. (By name, Pie 0.2.0 says yes to whatever was uploaded once, and
                older servers know no names.)
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            RequestError: the server can't tell.
            TypeError, ValueError: it can't be a program.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        function = None if isinstance(program_hash, str) else function_program(program_hash)
        text = "" if function is not None else check_hash_or_name(program_hash)  # refuses what else there is
        limit = self._manager.limit(timeout)
        connection = self._manager.authenticated("program_exists", limit)
        if function is not None:
            return connection.functions.exists(function, "program_exists", limit)
        if "@" in text:
            return connection.programs.name_exists(text, limit)
        return connection.programs.exists(text, limit)

    # --- instances --------------------------------------------------------------------------------------

    @overload
    def launch(
        self,
        program: Inferlet[..., R],
        args: Arguments = ...,
        detached: bool = ...,
        *,
        timeout: Timeout = ...,
    ) -> Instance[R]: ...
    @overload
    def launch(
        self, program: KnownProgram, args: Arguments = ..., detached: bool = ..., *, timeout: Timeout = ...
    ) -> Instance[Any]: ...
    @overload
    def launch(
        self,
        program: Callable[..., Coroutine[Any, Any, R]],
        args: Arguments = ...,
        detached: bool = ...,
        *,
        timeout: Timeout = ...,
    ) -> Instance[R]: ...
    @overload
    def launch(
        self, program: Callable[..., R], args: Arguments = ..., detached: bool = ..., *, timeout: Timeout = ...
    ) -> Instance[R]: ...
    def launch(
        self, program: Program, args: Arguments = (), detached: bool = False, *, timeout: Timeout = DEFAULT
    ) -> Instance[Any]:
        """Launch a program, whatever it is. Blocks until the server says that it runs.

        Args:
            program: as for :meth:`run`. A function or a file is uploaded first, unless the server has it.
            args: see :meth:`launch_instance`; for a function, what fits its signature.
            detached: see :meth:`launch_instance`.
            timeout: seconds; None is without limit; default: the client's ``timeout``. The upload of a function
                has a limit of its own, see :meth:`run`. For the rest see :meth:`launch_instance`.

        Raises:
            LaunchError: the server refused, for instance because there is no such program, or it runs no
                functions.
            UploadError: the server refused the program, or it is no WebAssembly.
            TypeError, ValueError: it can't be a program, or ``args`` can't be encoded or don't fit.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
            OSError: a file can't be read.
        """
        given, input_ = GivenProgram(program), check_args(args)
        checked = given.check_args(input_)
        reference = given.find(self._manager, "launch", lambda: timeout)
        limit = self._manager.limit(timeout)
        connection = self._manager.authenticated("launch", limit)
        record = LaunchRecord(input_, monotonic(), reference.result_form)
        if reference.hash is not None:
            return self._launch_by_hash(connection, "launch", reference.hash, checked, detached, limit, record)
        assert reference.name is not None
        return self._launch_by_name(connection, "launch", reference.name, checked, detached, limit, record)

    def launch_instance(
        self, program_hash: str, args: Arguments = (), detached: bool = False, *, timeout: Timeout = DEFAULT
    ) -> Instance[Any]:
        """Launch an uploaded program. Blocks until the server says that it runs.

        Args:
            program_hash: what :meth:`upload_program` returned.
            args: the program's arguments, either as a list of strings (``["--max-tokens", "5"]``) or as a
                mapping (``{"max_tokens": 5}``). What the server's generation wants is made of it, by the rule of
                Pie's own command line.
            detached: don't attach this connection to it. The instance protocol keeps its stdout and stderr (the
                last 1 MiB of each) and its end until somebody attaches; its messages and blobs are lost. Pie 0.5
                keeps nothing, and on the process protocol an instance that ends before the server's list could be
                read can't be found (``LaunchError``). There 64 spaces and tabs follow the JSON of its arguments,
                by which the list tells it from others: a program that takes its input as text sees them.
            timeout: seconds; None is without limit; default: the client's ``timeout``. If the answer comes too
                late, the instance runs all the same, attached to this connection: find it with
                :meth:`list_instances`, and :meth:`attach_instance` takes it over, with all its events.

        Raises:
            LaunchError: the server refused, for instance because it doesn't have the program.
            PieValueError, TypeError: an argument is invalid, or ``args`` can't be encoded for this server.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        program_hash, checked = check_hash(program_hash), check_args(args)
        record = LaunchRecord(checked, monotonic())
        limit = self._manager.limit(timeout)
        connection = self._manager.authenticated("launch_instance", limit)
        return self._launch_by_hash(connection, "launch_instance", program_hash, checked, detached, limit, record)

    def launch_instance_from_registry(
        self, name: str, args: Arguments = (), detached: bool = False, *, timeout: Timeout = DEFAULT
    ) -> Instance[Any]:
        """Launch a program that the server finds by its name. Blocks until the server says that it runs.

        Args:
            name: ``[namespace/]name[@version]``. The instance protocol's defaults are ``std`` and ``latest``; the
                process protocol has no namespaces; Pie 0.5 takes the highest version, 0.3 and 0.4 want one.
            args: see :meth:`launch_instance`.
            detached: see :meth:`launch_instance`.
            timeout: see :meth:`launch_instance`. A server may have to download the program first.

        Raises:
            LaunchError: the server refused, for instance because there is no such program.
            PieValueError, TypeError: an argument is invalid, or ``args`` can't be encoded for this server.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        name, checked = check_name(name), check_args(args)
        record = LaunchRecord(checked, monotonic())
        limit = self._manager.limit(timeout)
        method = "launch_instance_from_registry"
        connection = self._manager.authenticated(method, limit)
        return self._launch_by_name(connection, method, name, checked, detached, limit, record)

    def _launch_by_hash(
        self,
        connection: Connection,
        method: str,
        program_hash: str,
        args: list[str] | dict[str, Any],
        detached: bool,
        limit: TimeLimit,
        record: LaunchRecord,
    ) -> Instance[Any]:
        program = connection.programs.name_of(program_hash, method, limit)

        def encode(corr_id: int, **options: Any) -> bytes:
            return connection.session.protocol.launch(
                corr_id, program_hash, program, args, bool(detached), **options
            )

        return self._launch(connection, method, encode, detached, limit, record)

    def _launch_by_name(
        self,
        connection: Connection,
        method: str,
        name: str,
        args: list[str] | dict[str, Any],
        detached: bool,
        limit: TimeLimit,
        record: LaunchRecord,
    ) -> Instance[Any]:
        upload = connection.programs.upload_named(name, method, limit)

        def encode(corr_id: int, **options: Any) -> bytes:
            if upload is not None:
                return connection.session.protocol.launch(corr_id, *upload, args, bool(detached), **options)
            return connection.session.protocol.launch_from_registry(corr_id, name, args, bool(detached), **options)

        return self._launch(connection, method, encode, detached, limit, record)

    def _launch(
        self,
        connection: Connection,
        method: str,
        encode: Callable[..., bytes],
        detached: bool,
        limit: TimeLimit,
        record: LaunchRecord,
    ) -> Instance[Any]:
        session = connection.session
        if detached:
            is_listed = isinstance(session.protocol, ProcessProtocol)
            tag = new_tag()
            options = {"tag": tag} if is_listed else {}
            answer: Answer = session.call(
                method,
                lambda corr_id: encode(corr_id, **options),
                limit,
                kind=session.protocol.launch_answer,
                refused=LaunchError,
            )
            # Where the process protocol does not tell the id, its list does.
            instance_id = answer.text or find_detached(session, method, tag, limit)
            return Instance(self._manager, session, instance_id, None)
        router = session.router
        attachment = Attachment(router.unclaimed)
        try:
            answer = session.call(
                method,
                encode,
                limit,
                kind=session.protocol.launch_answer,
                on_success=lambda answer: attachment.arrive(answer.text, router.add_instance(answer.text)),
                refused=LaunchError,
            )
            return Instance(self._manager, session, answer.text, attachment.events, record)
        except BaseException:  # also when a signal handler raises behind the call
            attachment.give_up()
            raise

    def attach_instance(self, instance_id: str, *, timeout: Timeout = DEFAULT) -> Instance[Any]:
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
        check_text(instance_id, "instance_id", "instances have it in .id")
        limit = self._manager.limit(timeout)
        session = self._manager.authenticated("attach_instance", limit).session
        unclaimed = session.router.claim(instance_id)
        if unclaimed is not None:
            return Instance(self._manager, session, instance_id, unclaimed)
        if session.router.has_instance(instance_id):
            # The server would say the same. But Pie 0.5.2 also ends an instance when a connection closes that it
            # had refused to attach, so it's better not asked.
            raise AttachError("attach_instance", "Instance already attached (to this very client)")
        return Instance(self._manager, session, instance_id, attach(session, instance_id, limit))

    def list_instances(self, *, timeout: Timeout = DEFAULT) -> list[InstanceInfo]:
        """Return what the server knows of your instances: the running ones, and those that finished detached.

        Pie 0.5 lists everybody's, and none that has finished. In a notebook the list shows itself as a table.

        Args:
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            RequestError: the server refused.
            ProtocolError: the list is malformed.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        limit = self._manager.limit(timeout)
        return list_instances(self._manager.authenticated("list_instances", limit).session, limit)

    def terminate_instance(self, instance_id: str, *, timeout: Timeout = DEFAULT) -> None:
        """Ask the server to end an instance, attached or not: its last event will be :attr:`Event.Aborted`.

        Blocks until the server has taken note. That there is no such instance is told by the process protocol
        only (instance protocol, ``terminate_instance``: successful for any well-formed id).

        Args:
            instance_id: its :attr:`Instance.id`.
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Raises:
            TerminateError: it isn't the id of an instance.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        check_text(instance_id, "instance_id", "instances have it in .id")
        limit = self._manager.limit(timeout)
        terminate(self._manager.authenticated("terminate_instance", limit).session, instance_id, limit)

    # --- batches ------------------------------------------------------------------------------------------

    @overload
    def run(
        self,
        program: Inferlet[..., R],
        args: Arguments = ...,
        *,
        input: Input = ...,
        timeout: float | None = ...,
        check: bool = ...,
        on_event: OnEvent = ...,
    ) -> CompletedInstance[R]: ...
    @overload
    def run(
        self,
        program: KnownProgram,
        args: Arguments = ...,
        *,
        input: Input = ...,
        timeout: float | None = ...,
        check: bool = ...,
        on_event: OnEvent = ...,
    ) -> CompletedInstance[Any]: ...
    @overload
    def run(
        self,
        program: Callable[..., Coroutine[Any, Any, R]],
        args: Arguments = ...,
        *,
        input: Input = ...,
        timeout: float | None = ...,
        check: bool = ...,
        on_event: OnEvent = ...,
    ) -> CompletedInstance[R]: ...
    @overload
    def run(
        self,
        program: Callable[..., R],
        args: Arguments = ...,
        *,
        input: Input = ...,
        timeout: float | None = ...,
        check: bool = ...,
        on_event: OnEvent = ...,
    ) -> CompletedInstance[R]: ...
    def run(
        self,
        program: Program,
        args: Arguments = (),
        *,
        input: Input = None,  # noqa: A002 - the name that subprocess.run gave it
        timeout: float | None = None,
        check: bool = True,
        on_event: OnEvent = None,
    ) -> CompletedInstance[Any]:
        """Launch a program and wait for its end: what ``subprocess.run`` is for processes.

        Args:
            program: one of these; what is uploaded is uploaded only if the server doesn't have it.

                - A function, decorated with :func:`inferlet` or not, for Pie 0.5; or an inferlet of Pie's official
                  client. It is uploaded as source.
                - The path of a Python file, with the name of a function in it if there are several:
                  ``"script.py"``, ``"script.py:complete"``. The file is read, not run.
                - The path of a WebAssembly file: a ``PathLike``, or a str that ends with ``.wasm``.
                - Any other str is never a file, but a name in the registry, or a hash (64 hexadecimal digits).
            args: see :meth:`launch_instance`. Those of a function are checked before anything is sent; see also
                :meth:`Inferlet.args`.
            input: what to send once it runs: a message (str), a blob (bytes-like), or an iterable of both, sent in
                order. What comes after the instance's end is dropped. A generator is asked for the next when the
                one before is sent. (Process protocol: a blob is lost unless the program is waiting for it at that
                moment; see :meth:`Instance.upload_blob`.)
            timeout: seconds for the whole call; None, the default, is without limit, but each request has the
                client's ``timeout`` all the same. The upload of a function does not count: it has the client's
                ``timeout``, but 180 s at the least, since a fresh server needs half a minute for its first Python
                program. (The logger ``pie_sync.protocol`` tells of it at level INFO.)
            check: raise ``InstanceFailed`` unless it has ``Completed``.
            on_event: called as ``on_event(event, data)`` for each event, the last one included, in this thread.

        Returns:
            Everything that it sent; ``.value`` is what a function returned.

        If the time is over, or anything is raised (also by ``on_event`` or ``input``, also Ctrl-C), the instance
        is terminated first: that takes what the server needs for it, 3 seconds more at the most. If the launch
        isn't answered even then, the instance is terminated when the answer comes.

        Raises:
            InstanceFailed: see ``check``. Its ``completed`` has the result.
            PieTimeoutError: not done in time. Its ``completed`` is a :class:`CompletedInstance` with all that was
                received up to its end (``Aborted``), or None if there was no instance, or no end.
            LaunchError: the server refused, for instance because there is no such program, or it runs no
                functions.
            UploadError: the server refused the program or a blob, or the program is no WebAssembly.
            ProtocolError: the server sent a malformed message about this instance.
            TypeError, PieValueError: an argument is invalid, does not fit the function, or can't be encoded for
                this server; or a function can't run there.
            PieConnectionError: the connection is lost. The instance may run on.
            OSError: the file can't be read.
        """
        return run(
            self._manager,
            self._launchers,
            program,
            args,
            input=input,
            timeout=timeout,
            check=check,
            on_event=on_event,
        )

    @overload
    def map(
        self,
        program: Inferlet[..., R],
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[R]]: ...
    @overload
    def map(
        self,
        program: KnownProgram,
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[Any]]: ...
    @overload
    def map(
        self,
        program: Callable[..., Coroutine[Any, Any, R]],
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[R]]: ...
    @overload
    def map(
        self,
        program: Callable[..., R],
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: Literal[False] = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[R]]: ...
    @overload
    def map(
        self,
        program: Inferlet[..., R],
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: bool = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "yield", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[R] | PieError]: ...
    @overload
    def map(
        self,
        program: KnownProgram,
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: bool = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "yield", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[Any] | PieError]: ...
    @overload
    def map(
        self,
        program: Callable[..., Coroutine[Any, Any, R]],
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: bool = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "yield", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[R] | PieError]: ...
    @overload
    def map(
        self,
        program: Callable[..., R],
        inputs: Iterable[Arguments],
        *,
        concurrency: int = ...,
        ordered: bool = ...,
        retries: int = ...,
        return_exceptions: bool = ...,
        timeout: float | None = ...,
        on_error: Literal["raise", "yield", "skip"] | None = ...,
        results: str | os.PathLike[str] | None = ...,
        restart: bool = ...,
        progress: ProgressOption = ...,
    ) -> Results[CompletedInstance[R] | PieError]: ...
    def map(
        self,
        program: Program,
        inputs: Iterable[Arguments],
        *,
        concurrency: int = 16,
        ordered: bool = True,
        retries: int = 0,
        return_exceptions: bool = False,
        timeout: float | None = None,
        on_error: Literal["raise", "yield", "skip"] | None = None,
        results: str | os.PathLike[str] | None = None,
        restart: bool = False,
        progress: ProgressOption = None,
    ) -> Results[Any]:
        """Run one instance for each input, many at a time over this one connection; yield their results.

        A function or a file is uploaded at once, if need be; everything else happens in the thread that takes the
        results, while it waits for one. There is no further thread, and no launch waits for another one's answer.
        Take results without long pauses: places that become free are filled again when the next one is asked for.
        Short instances are launched several in one write if ``inputs`` is a list or a tuple. From another iterable
        each is launched as soon as it comes, since the next one may be long in coming.

        Only one thread at a time may take results. Any number of ``map`` may run at once on one client.

        Args:
            program: as for :meth:`run`.
            inputs: for each instance its arguments, as :meth:`launch_instance` takes them: a list of strings, or a
                mapping. A plain str is a ``TypeError``, as it is there. They may be endless: no more than
                4 times ``concurrency`` are taken ahead of the results.
            concurrency: how many instances may be running or being launched.
            ordered: yield in the order of the inputs, so that a slow instance holds up those behind it; else as
                they finish.
            retries: how often an input is launched again when its launch was refused or not answered within the
                client's ``timeout``, when its instance did not complete, not within ``timeout``, or the server has
                lost its end, or when the server sent something senseless of it or the connection was lost (which
                helps with ``reconnect=True``). An instance may have done its work all the same. The pause before
                it is 0.1 s and doubles each time, up to 30 s; meanwhile other inputs run. What would happen again
                is not tried again: mistakes in the arguments, a program of which the server says that there is
                none, an instance that somebody has terminated. (A server up to Pie 0.4 looks for a program that it
                does not have in a registry. If it can't reach that, the launch is tried again.)
            timeout: the time limit of each instance, in seconds from its launch; None, the default, is without
                limit. An instance that has not ended by then is terminated, and the outcome of its input is a
                ``PieTimeoutError``. A server can lose the end of an instance so that no question to it tells: then
                only this limit ends the wait.
            return_exceptions: the older name of ``on_error="yield"``.
            on_error: what to do with a ``PieError`` of an input: ``"raise"`` it at its place, which ends the
                iteration; ``"yield"`` it at its place; or ``"skip"`` the input. How many were skipped is the
                generator's attribute ``skipped``, and is logged at INFO at the end. None is ``"raise"``. A lost
                connection and mistakes in the inputs are raised in any case.
            results: the path of a journal, where ``~`` is the home directory. Each outcome is written to it before
                it is yielded, as one JSON line in the format of ``pie-sync map``. If the file has lines already,
                their outcomes are yielded first, and the instances begin behind them: so the same call resumes a
                batch.
                What was raised has no line, and is run again. What has completed stays valid with another
                ``on_error`` or ``retries``, and failures with ``"yield"`` for ``"skip"`` or the reverse. Only one
                batch at a time may write it: until the generator has ended, or is closed or dropped. A pipe or a
                device takes lines as well, but nothing is read from it, so nothing is resumed. Not with
                ``ordered=False``.
            restart: begin anew: what is in ``results`` is replaced when the first new outcome is there. Without
                ``results`` it changes nothing.
            progress: a function that is called with a :class:`BatchProgress` in the thread that takes the results,
                at most every 0.1 s; or True for a bar of tqdm (the extra ``progress``), on a terminal or in a
                notebook. What the function raises ends the iteration, and the function is not called again. If
                the iteration has ended already, when it is told the last state, that is only logged.

        Yields:
            a :class:`CompletedInstance` for each input, or its error: see ``on_error``.

        Whatever ends the iteration before the inputs do (``close()``, ``break``, an error, Ctrl-C, dropping the
        generator) terminates what runs and drops its output: 2 seconds at the most. Where waiting would do harm
        (the generator is collected as garbage in the middle of this client's work, or another thread is sending),
        that happens without waiting for the server's answers.

        Raises:
            InstanceFailed: at the place of an instance that did not complete.
            LaunchError, ProtocolError: at the place of an input that could not be run.
            PieTimeoutError: the same; or its instance has not ended within ``timeout``.
            TypeError, PieValueError: an argument is invalid (at once), or an input (at its place). The latter
                also says that ``results`` is of another program, other options or other inputs, and names both, or
                that another batch is writing it.
            PieConnectionError: the connection is lost.
            OSError: the file can't be read, or ``results`` can't be written.
            ImportError: ``progress=True``, and there is no tqdm.
        """
        return map_(
            self._manager,
            program,
            inputs,
            concurrency=concurrency,
            ordered=ordered,
            retries=retries,
            return_exceptions=return_exceptions,
            timeout=timeout,
            on_error=on_error,
            results=results,
            restart=restart,
            progress=progress,
        )

    # --- the server -------------------------------------------------------------------------------------

    def ping(self, *, timeout: Timeout = DEFAULT) -> float:
        """Send a ping request and wait for its answer.

        Args:
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Returns:
            The round trip in seconds.

        Raises:
            RequestError: the server refused.
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        limit = self._manager.limit(timeout)
        session = self._manager.authenticated("ping", limit).session
        begin = perf_counter()
        session.call("ping", session.protocol.ping, limit)
        taken = session.counters.last_round_trip = perf_counter() - begin
        return taken

    def stats(self) -> ClientStats:
        """Return counters: messages and bytes each way, waiting events and requests, reconnections.

        Never blocks, and asks nothing of the server. The counters begin anew with :meth:`connect`, but not with a
        reconnection. All zero while the client is not connected.
        """
        connection = self._manager.connection
        return ClientStats() if connection is None else connection.session.stats()

    def query(self, subject: str, record: str, *, timeout: Timeout = DEFAULT) -> QueryResult:
        """Send a named query to the server. Blocks until the answer comes.

        Args:
            subject: what: ``model_status`` (JSON); on the instance protocol also ``backend_stats`` (text) and
                ``program_exists``. **Servers up to 0.4 never answer a subject that they don't know**: the call
                then ends with its time limit.
            record: of which: the hash for ``program_exists``, else ``""``.
            timeout: seconds; None is without limit; default: the client's ``timeout``.

        Returns:
            (successful, result): whether the server could answer, and its answer.

        Raises:
            PieTimeoutError: no answer in time.
            PieConnectionError: the connection is lost.
        """
        check_text(subject, "subject")
        check_text(record, "record")
        limit = self._manager.limit(timeout)
        session = self._manager.authenticated("query", limit).session
        try:
            answer = session.call("query", lambda corr_id: session.protocol.query(corr_id, subject, record), limit)
        except RequestError as error:
            return QueryResult(False, error.reason)
        except PieTimeoutError as error:
            raise PieTimeoutError(
                f"{error}: servers up to 0.4 never answer a subject that they don't know"
            ) from error
        return QueryResult(True, answer.text)


def _load_key(given: Any) -> ParsedPrivateKey | None:
    """Return the key that a caller of authenticate() means."""
    if isinstance(given, str) and ("\n" in given or "-----BEGIN" in given):
        # Opened as a file, it would show up in the error, and in whatever log takes that.
        raise PieValueError("private_key is a path or a key, not the text of one", "ParsedPrivateKey.parse(text)")
    if given == "agent":
        return ParsedPrivateKey.from_agent()
    if isinstance(given, (str, os.PathLike)):
        return ParsedPrivateKey.from_file(given)
    if given is not None and not hasattr(given, "sign"):
        raise TypeError(
            f"private_key must be a ParsedPrivateKey or a path, not {type(given).__name__}:"
            " load it with ParsedPrivateKey.from_file(path)"
        )
    return cast("ParsedPrivateKey | None", given)
