"""An instance in the foreground: its output comes here, Ctrl-C ends it, Ctrl-D leaves it alone."""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING, Callable

from .._support.signal_safe_queue import SignalSafeQueue
from ..errors import PieConnectionError, PieError
from ..events import Blob, Event
from ._failures import Failure, explain, printable
from ._interruption import INTERRUPTION, NAP
from ._output import Output
from ._stdin import StdinReader

if TYPE_CHECKING:
    from pathlib import Path

    from ..client import PieClient
    from ..instance import Instance

__all__ = ["Foreground"]

ENDED = "ended"
LEFT = "left"


class Foreground:
    """Shows what an instance sends until it ends, or the user ends it (Ctrl-C) or leaves it alone (Ctrl-D).

    The events are received in a thread. This one, which signals interrupt, only waits, and holds interruptions off
    but for that: so one never loses an event, and never comes in the middle of a request.

    Args:
        client: connected and authenticated.
        obtain: launches the instance, or attaches to it.
        blobs: where to save blobs; None drops them.
        send_stdin: send each line of stdin as a message.
        timeout: how many seconds the server may take to end the instance when it's asked to.
    """

    def __init__(
        self,
        client: PieClient,
        obtain: Callable[[], Instance],
        *,
        blobs: Path | None,
        send_stdin: bool,
        timeout: float,
    ) -> None:
        self._client = client
        self._obtain = obtain
        self._blobs = blobs
        self._send_stdin = send_stdin
        self._timeout = timeout
        self._output = Output()
        self._instance: Instance | None = None
        self._obtained = threading.Event()
        # What the main thread waits for: why there's nothing more to wait for.
        self._news: SignalSafeQueue[str] = SignalSafeQueue()
        self._error: BaseException | None = None
        self._end: Event | None = None
        self._thread = threading.Thread(target=self._receive, name="events", daemon=True)

    def run(self) -> int:
        """Stay until the end, and return the exit code."""
        with INTERRUPTION.hold():
            stdin = self._stdin()
            try:
                self._thread.start()
                if stdin is not None:
                    stdin.start()
                news = self._wait()
            except KeyboardInterrupt:
                self._interrupt()
                raise
            finally:
                if stdin is not None:
                    stdin.stop()
            return self._leave() if news == LEFT else self._exit_code()

    def _wait(self) -> str:
        while True:
            INTERRUPTION.check()
            try:
                return self._news.get(NAP)
            except queue.Empty:
                pass

    # --- in a thread of its own -------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            try:
                self._instance = self._obtain()
            finally:
                self._obtained.set()
            for event, data in self._instance:
                self._show(event, data)
        except BaseException as error:  # raised again in the main thread
            self._error = error
        self._news.put(ENDED)

    def _show(self, event: Event, data: str | bytes) -> None:
        output = self._output
        if isinstance(data, bytes):
            self._keep(data if isinstance(data, Blob) else Blob(data))
        elif event is Event.Stdout:
            output.stdout(data)
        elif event is Event.Stderr:
            output.stderr(data)
        elif event is Event.Message:
            output.result(data)
        elif event is Event.Completed:
            self._end = event
            # The process protocol has a result always: "null", as JSON, is none.
            if data and data != "null":
                output.result(data)
        else:
            self._end = event
            output.note(f"{event.name}: {data}".rstrip(": \n"))

    def _keep(self, blob: Blob) -> None:
        if self._blobs is None:
            self._output.note(f"[a blob of {len(blob)} bytes came; --save-blobs DIR keeps them]")
        else:
            self._output.note(f"[saved {blob.save(self._blobs)}, {len(blob)} bytes]")

    # --- in the thread of stdin -------------------------------------------------------------------------

    def _stdin(self) -> StdinReader | None:
        if sys.stdin is None or sys.stdin.closed:
            return None
        if self._send_stdin:
            return StdinReader(self._send, lambda: None)
        # Pie 0.5 would end the instance with its connection, so there it can't be left alone.
        if sys.stdin.isatty() and self._client.protocol == "instance":
            return StdinReader(lambda _: None, lambda: self._news.put(LEFT))
        return None

    def _send(self, line: str) -> None:
        self._obtained.wait()
        if self._instance is None:
            return
        try:
            self._instance.send(line)
        except (PieError, PieConnectionError) as error:
            # If it has ended meanwhile, nobody needs the line any more.
            if not self._instance.finished and self._end is None:
                self._output.note(f"[not sent: {explain(error).text}]")

    # --- in the main thread, at the end -----------------------------------------------------------------

    def _exit_code(self) -> int:
        error = self._error
        if error is None:
            return 0 if self._end is Event.Completed else 1
        if self._instance is not None and isinstance(error, PieConnectionError):
            raise Failure(
                str(error), f"the server may have kept it running: `pie-sync attach {self._instance.id}`"
            ) from error
        # Nobody sees its output any more: then it shall not go on either.
        self._terminate_quietly()
        raise error

    def _leave(self) -> int:
        """Let the instance run, without us."""
        self._obtained.wait()
        if self._instance is None:
            self._thread.join()
            return self._exit_code()
        self._client.close()
        self._thread.join()
        if self._end is not None:
            return self._exit_code()
        self._output.note(f"[left; `pie-sync attach {self._instance.id}` comes back to it]")
        return 0

    def _interrupt(self) -> None:
        """End the instance, and wait for its end."""
        self._note("[ending the instance; Ctrl-C again leaves at once]")
        self._obtained.wait(self._timeout)
        if self._instance is None:
            return
        self._terminate_quietly()
        self._thread.join(self._timeout)
        if self._thread.is_alive():
            self._note(f"[the instance {self._instance.id} has not ended yet]")
            # The thread may be waiting for somebody who reads what it writes, and an orderly end would, too.
            self._client.close()
            INTERRUPTION.leave()

    def _note(self, text: str) -> None:
        try:
            self._output.note(text)
        except BrokenPipeError:
            pass  # Ctrl-C has ended the reader as well; the instance is to be ended all the same

    def _terminate_quietly(self) -> None:
        if self._instance is None:
            return
        try:
            self._instance.terminate(timeout=self._timeout)
        except (PieError, PieConnectionError) as error:
            self._note(f"[can't end the instance {self._instance.id}: {printable(str(error))}]")
