"""The state of a server: its users, programs, instances and records, whatever dialect its clients speak."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Callable

from ...events import Event
from .._network.thread_pool import ThreadPool
from .._programs.component import ComponentProgram, is_component
from .._programs.instance import Instance, Launch, Loss, Output, Program, Receiver
from .._programs.records import Records
from .catalog import Catalog
from .users import Users

__all__ = ["Core", "NotInstalledError"]


class NotInstalledError(ValueError):
    """A program can't be compiled since wasmtime is not installed. The text tells the client what to install."""


class Core:
    """The programs of a server and the instances of its users. Safe to use from any thread.

    Args:
        users: the users, and how they log in.
        memory_limit: bytes of linear memory that one WebAssembly instance may have.
        keeps_output: whether the output of a detached instance, terminal event included, is kept until a client
            attaches (see :class:`KeptOutput`).
        core_modules: whether core modules can be compiled, which no real server does.

    Attributes:
        catalog: the programs.
        users: the users.
        records: the records of the instances.
        closing: set as soon as :meth:`close` is called. Long waits wait on this event.
    """

    def __init__(
        self, users: Users, memory_limit: int, *, keeps_output: bool = True, core_modules: bool = True
    ) -> None:
        self.catalog = Catalog()
        self.users = users
        self.records = Records()
        self.closing = threading.Event()
        self._memory_limit = memory_limit
        self._keeps_output = keeps_output
        self._core_modules = core_modules
        self._instances: dict[str, Instance] = {}
        self._thread_pool = ThreadPool()
        # How many of the next instances lose their ends, and their first outputs.
        self._losing_ends = 0
        self._losing_first_outputs = 0
        # Guards _instances and the two above. Not held while calling a method that takes an instance's lock.
        self._lock = threading.Lock()

    def compile(self, wasm: bytes) -> Program:
        """Compile a component or, if they are allowed, a core module.

        Raises:
            NotInstalledError: core modules need a package that is not installed.
            ValueError: the bytes are neither, or invalid.
        """
        if is_component(wasm):
            return ComponentProgram(wasm, self._memory_limit)
        if not self._core_modules:
            raise ValueError("no component")
        # Imported here, since wasmtime is slow to load and many servers run Python programs only.
        try:
            from .._programs.wasm_program import WasmProgram  # noqa: PLC0415
        except ModuleNotFoundError as error:
            text = f"WebAssembly needs {error.name}, which is not installed: pip install 'pie-sync[testing]'"
            raise NotInstalledError(text) from error
        return WasmProgram(wasm, self._memory_limit)

    def launch(
        self, launch: Launch, receiver: Receiver | None, acknowledge: Callable[[str], None] | None = None
    ) -> Instance:
        """Start an instance in a thread of its own.

        Args:
            launch: the launch request.
            receiver: takes the output; None for a detached instance.
            acknowledge: called with the instance's id before the program runs, to queue the answer; must not
                block.
        """
        with self._lock:
            loss = Loss(self._losing_ends > 0, self._losing_first_outputs > 0)
            self._losing_ends -= loss.end
            self._losing_first_outputs -= loss.first_output
        instance = Instance(
            launch, receiver, self.records, self._forget, keeps_output=self._keeps_output, loss=loss
        )
        with self._lock:
            self._instances[instance.id] = instance
        if acknowledge is not None:
            acknowledge(instance.id)
        try:
            self._thread_pool.run(instance.run, f"instance-{instance.id[:8]}")
        except RuntimeError as error:
            instance.emit(Event.OutOfResources, str(error))
        if self.closing.is_set():
            # close() may have listed the instances before this one was added.
            instance.terminate()
        return instance

    def lose(self, ends: int, first_outputs: int) -> None:
        """Lose the ends of so many of the next instances, and the first outputs of so many."""
        with self._lock:
            self._losing_ends = ends
            self._losing_first_outputs = first_outputs

    def find(self, instance_id: str) -> Instance | None:
        """Return the instance with this id, whoever launched it, None if there is none."""
        with self._lock:
            return self._instances.get(instance_id)

    def find_attached(self, instance_id: str, receiver: Receiver) -> Instance | None:
        """Return the instance with this id if ``receiver`` takes its output, None otherwise."""
        with self._lock:
            instance = self._instances.get(instance_id)
        return instance if instance is not None and instance.is_attached_to(receiver) else None

    def instances(self, username: str | None = None) -> list[Instance]:
        """Return the instances of one user; of all users by default."""
        with self._lock:
            return [i for i in self._instances.values() if username is None or i.username == username]

    def attached_to(self, receiver: Receiver) -> list[Instance]:
        """Return the instances whose output ``receiver`` takes."""
        return [instance for instance in self.instances() if instance.is_attached_to(receiver)]

    def terminate(self, instance: Instance, acknowledge: Callable[[], None] | None = None) -> None:
        """End an instance, whatever its status, and remove it from the list; see :meth:`Instance.terminate`."""
        with self._lock:
            self._instances.pop(instance.id, None)
        instance.terminate(acknowledge)

    def detach(self, receiver: Receiver, unsent: Sequence[Output] = ()) -> None:
        """Detach all instances of ``receiver``; ``unsent`` is the output that it had taken but could not send."""
        kept: dict[Instance, list[Output]] = {instance: [] for instance in self.attached_to(receiver)}
        for output in unsent:
            kept.setdefault(output.instance, []).append(output)
        for instance, outputs in kept.items():
            instance.detach(receiver, outputs)
            if not instance.drained and any(output.event.terminal for output in outputs):
                # It was removed from the list when its last output was handed over.
                with self._lock:
                    self._instances[instance.id] = instance

    def close(self, deadline: float) -> bool:
        """Terminate all instances and wait until ``deadline``, a ``time.monotonic()``, for their threads.

        Returns:
            Whether all threads have ended. A program that makes no call does not notice that it was terminated.
        """
        self.closing.set()
        for instance in self.instances():
            self.terminate(instance)
        return self._thread_pool.close(deadline)

    def _forget(self, instance: Instance) -> None:
        with self._lock:
            # A connection that is lost at this moment may have given back output that it could not send.
            if instance.drained:
                self._instances.pop(instance.id, None)
