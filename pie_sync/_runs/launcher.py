"""What the launches of one program on one connection have in common."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from .._support.kept_errors import copy_of_error
from .._support.signal_handlers import is_from_signal_handler

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._connection.manager import Connection, ConnectionManager
    from .._protocol import LaunchEncoder
    from .._protocol.program_names import ProgramName
    from .._support.time_limits import TimeLimit
    from .launch import Launch
    from .program_reference import ProgramReference

__all__ = ["Launcher", "RecentLaunchers"]

#: How many bytes of messages are sent in one write, about: a write holds up all other senders.
_WRITE_SIZE = 256 * 1024

#: For how many seconds to keep what the server has said of the program.
_KEPT = 10.0

#: Of how many programs the launchers are kept.
_MAX_RECENT = 16


class Launcher:
    """Looks up once what each launch of a program needs, and sends many launches in one write. Thread-safe.

    Blocks while a lost connection is being restored; and where the server has to be asked for the program.

    Args:
        manager: the client's connection manager.
        method: the client's method, for error messages.
        program: what to launch.
        limit: how long it may take.

    Attributes:
        manager, method, program: see above.
        result_form: see :class:`ProgramReference`.
        session: of the connection.
        kinds: the types of messages that answer a launch.
        put: see :meth:`Router.put`.

    Raises:
        AuthenticationError: the client isn't authenticated.
        LaunchError: the server was asked for the program by its hash, and does not have it.
        PieTimeoutError: it does not say in time whether it does.
        PieConnectionError: the connection is lost.
    """

    def __init__(
        self, manager: ConnectionManager, method: str, program: ProgramReference, limit: TimeLimit
    ) -> None:
        self._connection = connection = manager.authenticated(method, limit)
        self.manager = manager
        self.method = method
        self.program = program
        self.result_form = program.result_form
        self.session = connection.session
        protocol = self.session.protocol
        self.kinds = (protocol.launch_answer,)
        self.put = self.session.router.put
        self._hash = _hash_of(connection, program)
        self._until = monotonic() + _KEPT
        # What launches an upload: its hash and its name. None if the server is to find the program by its name.
        self._upload: tuple[str, ProgramName] | None = None
        if program.hash is not None:
            self._upload = program.hash, connection.programs.name_of(program.hash, method, limit)
        elif program.name is not None:
            self._upload = connection.programs.upload_named(program.name, method, limit)
        # Made when there are several launches: it takes as long as encoding twenty.
        self._encode: LaunchEncoder | None = None

    @property
    def is_current(self) -> bool:
        """Whether another one would be the same: the connection is used and has not learned anything.

        What others upload only the server knows, which is asked again after 10 s.
        """
        return (
            self.manager.connection is self._connection
            and self.session.is_usable
            and monotonic() < self._until
            and _hash_of(self._connection, self.program) == self._hash
        )

    def encode(self, corr_id: int, args: Any) -> bytes:
        """Encode one launch.

        Raises:
            TypeError, PieValueError: the arguments can't be sent to this server.
        """
        if self._encode is not None:
            return self._encode(corr_id, args)
        protocol, name = self.session.protocol, self.program.name
        if self._upload is not None:
            return protocol.launch(corr_id, *self._upload, args, False)
        assert name is not None
        return protocol.launch_from_registry(corr_id, name, args, False)

    def prepare(self) -> LaunchEncoder:
        """Get ready for many launches. If two threads do it at once, both make the same."""
        if self._encode is None:
            program_hash, name = self._upload or (None, self.program.name)
            assert name is not None
            self._encode = self.session.protocol.launch_encoder(program_hash, str(name))
        return self._encode

    def send(self, launches: Sequence[Launch], args: Sequence[Any], limit: TimeLimit) -> dict[Launch, Exception]:
        """Send launches. Blocks only while the server does not read.

        Args:
            launches: made with this launcher, and not sent yet.
            args: the arguments of each.
            limit: how long that may take.

        Returns:
            Those that failed, and why; they are given up. TypeError, PieValueError: the arguments can't be sent to
            this server. PieTimeoutError: not in time. PieConnectionError: the connection is lost.
        """
        failed: dict[Launch, Exception] = {}
        encoded: list[tuple[Launch, bytes]] = []
        try:
            self.session.router.pending.add_all(launches)
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            _give_up(launches, error, failed)
            return failed
        encode = self.prepare() if len(launches) > 1 else self.encode
        size = 0
        for launch, its_args in zip(launches, args):
            try:
                message = encode(launch.corr_ids[0], its_args)
            except Exception as error:
                if is_from_signal_handler(error):
                    raise
                _give_up([launch], error, failed)
                continue
            if len(message) > _WRITE_SIZE:
                # By itself: it may take several frames, or be longer than the server takes.
                self._write(encoded, limit, failed)
                encoded, size = [], 0
                self._write_long(launch, message, limit, failed)
                continue
            encoded.append((launch, message))
            size += len(message)
            if size > _WRITE_SIZE:
                self._write(encoded, limit, failed)
                encoded, size = [], 0
        self._write(encoded, limit, failed)
        return failed

    def _write(
        self, encoded: Sequence[tuple[Launch, bytes]], limit: TimeLimit, failed: dict[Launch, Exception]
    ) -> None:
        if not encoded:
            return
        launches, messages = zip(*encoded)
        try:
            self.session.request_all(launches, messages, limit.deadline())
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            _give_up(launches, error, failed)

    def _write_long(
        self, launch: Launch, message: bytes, limit: TimeLimit, failed: dict[Launch, Exception]
    ) -> None:
        try:
            self.session.request(launch, message, limit.deadline())
        except Exception as error:
            if is_from_signal_handler(error):
                raise
            _give_up([launch], error, failed)


class RecentLaunchers:
    """The launchers of the programs that were run last, for the next runs of them. Thread-safe.

    Measured by taking it out: runs of a short instance, one after the other, take 1.1 times as long.
    """

    def __init__(self) -> None:
        self._launchers: dict[str, Launcher] = {}

    def get(self, program: object) -> Launcher | None:
        """Return the launcher of a program, if there is one that can still be used."""
        launcher = self._launchers.get(program) if isinstance(program, str) else None
        if launcher is None or not launcher.is_current:
            return None
        launcher.prepare()  # there will be more
        return launcher

    def keep(self, program: object, launcher: Launcher) -> None:
        """Keep the launcher of a program that the server knows by the text which the user gave."""
        if isinstance(program, str) and program in (launcher.program.name, launcher.program.hash):
            if len(self._launchers) >= _MAX_RECENT:
                self._launchers = {}
            self._launchers[program] = launcher


def _give_up(launches: Sequence[Launch], error: Exception, failed: dict[Launch, Exception]) -> None:
    for launch in launches:
        launch.give_up()
        failed[launch] = copy_of_error(error)


def _hash_of(connection: Connection, program: ProgramReference) -> str | None:
    # What this client uploaded under a name of its own is known by its hash to some servers.
    return program.hash if program.name is None else connection.programs.hash_of(program.name)
