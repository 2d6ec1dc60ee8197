"""An instance in the foreground: shows its output; Ctrl-C terminates it, Ctrl-D leaves it running."""

from __future__ import annotations

import queue
import sys
import threading
from typing import TYPE_CHECKING, Callable

from .._support.signal_safe_queue import SignalSafeQueue
from .._support.time_limits import check_timeout, deadline_after, time_left
from ..errors import PieConnectionError, PieError
from ..events import Blob, Event
from ._failures import Failure, explain
from ._interruption import INTERRUPTION, NAP
from ._output import Output, writing
from ._stdin import StdinReader

if TYPE_CHECKING:
    from pathlib import Path

    from ..client import PieClient
    from ..instance import Instance

__all__ = ["Foreground"]

#: Why the main thread need not wait any longer.
ENDED = "ended"
LEFT = "left"
EXPIRED = "expired"


class Foreground:
    """Shows what an instance sends until it ends, or the user terminates it (Ctrl-C) or leaves it (Ctrl-D).

    A thread of its own receives the events. The main thread, which signals interrupt, waits, and holds
    interruptions back at all other times: an interruption never loses an event or cuts a request.

    Args:
        client: a client that is connected and authenticated.
        obtain: launches the instance, or attaches to it.
        blobs: the folder to save blobs in; None drops them.
        send_stdin: whether to send each line of stdin as a message.
        timeout: how many seconds the server may take to terminate the instance.
        time_limit: after how many seconds the instance is terminated; None: never.
        tells_end: whether to tell that the instance has completed: who returns to an instance may find it ended.
    """

    def __init__(
        self,
        client: PieClient,
        obtain: Callable[[], Instance],
        *,
        blobs: Path | None,
        send_stdin: bool,
        timeout: float,
        time_limit: float | None = None,
        tells_end: bool = False,
    ) -> None:
        self._client = client
        self._obtain = obtain
        self._blobs = blobs
        self._send_stdin = send_stdin
        self._timeout = timeout
        self._time_limit = check_timeout(time_limit)
        self._tells_end = tells_end
        self._output = Output()
        self._instance: Instance | None = None
        self._obtained = threading.Event()
        # The main thread waits for ENDED or LEFT here.
        self._news: SignalSafeQueue[str] = SignalSafeQueue()
        self._error: BaseException | None = None
        self._end: Event | None = None
        self._thread = threading.Thread(target=self._receive, name="events", daemon=True)

    def run(self) -> int:
        """Show the instance until it ends or is left, and return the exit code."""
        with INTERRUPTION.hold():
            stdin = self._stdin()
            try:
                self._thread.start()
                if stdin is not None:
                    stdin.start()
                news = self._wait(deadline_after(self._time_limit))
                if news == EXPIRED:
                    self._terminate(f"[not ended within {self._time_limit:g} s: ending the instance]")
            except KeyboardInterrupt:
                self._terminate("[ending the instance; Ctrl-C again exits at once]")
                raise
            finally:
                if stdin is not None:
                    stdin.stop()
            return self._leave() if news == LEFT else self._exit_code()

    def _wait(self, deadline: float | None) -> str:
        left: float | None = None
        while left != 0:
            INTERRUPTION.check()
            left = time_left(deadline)
            try:
                return self._news.get(NAP if left is None else min(NAP, left))
            except queue.Empty:
                pass
        return EXPIRED

    # --- in the thread "events" ----------------------------------------------------------------------------

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
            # The process protocol always sends a result, as JSON: "null" if there is none.
            if data and data != "null":
                output.result(data)
            if self._tells_end:
                output.note(f"[{event.name.lower()}]")
        else:
            self._end = event
            output.note(f"{event.name}: {data}".rstrip(": \n"))

    def _keep(self, blob: Blob) -> None:
        if self._blobs is None:
            self._output.note(f"[received a blob of {len(blob)} bytes; --save-blobs DIR saves them]")
        else:
            with writing(str(self._blobs)):
                path = blob.save(self._blobs)
            self._output.note(f"[saved {path}, {len(blob)} bytes]")

    # --- in the thread "stdin" -----------------------------------------------------------------------------

    def _stdin(self) -> StdinReader | None:
        if self._send_stdin:
            return StdinReader(self._send, lambda: None)
        # Pie 0.5 ends an instance with its connection, so an instance can't be left running there.
        if sys.stdin.isatty() and self._client.protocol == "instance":
            return StdinReader(lambda _: None, self._on_control_d)
        return None

    def _on_control_d(self) -> None:
        # A terminal that was closed has an end of input as well, but is no terminal any more. SIGHUP follows.
        if sys.stdin.isatty():
            self._news.put(LEFT)

    def _send(self, line: str) -> None:
        self._obtained.wait()
        if self._instance is None:
            return
        try:
            self._instance.send(line)
        except (PieError, PieConnectionError) as error:
            # An instance that has ended in the meantime does not need the line.
            if not self._instance.finished and self._end is None:
                self._note(f"[not sent: {explain(error).text}]")

    # --- in the main thread, at the end -----------------------------------------------------------------

    def _exit_code(self) -> int:
        error = self._error
        if error is None:
            return 0 if self._end is Event.Completed else 1
        if self._instance is not None and isinstance(error, PieConnectionError):
            instance_id = self._instance.id
            if self._client.protocol == "process":
                # Pie 0.3 and 0.4 let nobody attach to it any more; 0.5 has ended it.
                hint = f"if the server has kept it running, `pie-sync terminate {instance_id}` ends it"
            else:
                hint = f"the server may have kept it running: `pie-sync attach {instance_id}`"
            raise Failure(explain(error).text, hint) from error
        # The output can't be shown any more, so the instance is not left running.
        self._terminate_quietly()
        raise error

    def _leave(self) -> int:
        """Close the connection and leave the instance running."""
        self._obtained.wait()
        if self._instance is None:
            self._thread.join()
            return self._exit_code()
        self._client.close()
        self._thread.join()
        if self._end is not None:
            return self._exit_code()
        self._output.note(f"[left running; `pie-sync attach {self._instance.id}` returns to it]")
        return 0

    def _terminate(self, note: str) -> None:
        """Terminate the instance, and wait until it has ended."""
        self._note(note)
        self._obtained.wait(self._timeout)
        if self._instance is None:
            return
        self._terminate_quietly()
        self._thread.join(self._timeout)
        if self._thread.is_alive():
            self._note(f"[the instance {self._instance.id} has not ended yet]")
            # The thread may be blocked in a write to stdout that nobody reads. An orderly exit would block too.
            self._client.close()
            INTERRUPTION.leave()

    def _note(self, text: str) -> None:
        try:
            self._output.note(text)
        except OSError:
            pass  # Ctrl-C has ended the reader too, or the terminal is gone; the instance is terminated anyway

    def _terminate_quietly(self) -> None:
        if self._instance is None:
            return
        try:
            self._instance.terminate(timeout=self._timeout)
        except (PieError, PieConnectionError) as error:
            self._note(f"[can't end the instance {self._instance.id}: {explain(error).text}]")
