"""What a server knows, whichever protocol its clients speak: programs, users, instances."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Callable

from ...events import Event
from .._network.workers import Workers
from .._programs.instance import Instance, Launch, Output, Program, Receiver
from .._programs.records import Records
from .catalog import Catalog
from .users import Users

__all__ = ["Core"]


class Core:
    """The programs of a server and the instances of its users. Safe to use from any thread.

    Args:
        users: who may log in, and how.
        memory_limit: bytes of linear memory that one WebAssembly instance may have.
        keeps_output: whether the output of a detached instance, its end included, is kept for whoever attaches.

    Attributes:
        catalog: the programs.
        users: see above.
        records: what is remembered of the instances.
        closing: set as soon as :meth:`close` is called; whoever waits for long waits on it.
    """

    def __init__(self, users: Users, memory_limit: int, *, keeps_output: bool = True) -> None:
        self.catalog = Catalog()
        self.users = users
        self.records = Records()
        self.closing = threading.Event()
        self._memory_limit = memory_limit
        self._keeps_output = keeps_output
        self._instances: dict[str, Instance] = {}
        self._workers = Workers()
        # Guards _instances. No instance's method that takes the instance's own lock is called with it held.
        self._lock = threading.Lock()

    def compile(self, wasm: bytes) -> Program:
        """Make a program of the bytes of a WebAssembly module.

        Raises:
            ValueError: they are none.
        """
        # Here, because wasmtime is slow to load and many servers run Python programs only.
        from .._programs.wasm_program import WasmProgram  # noqa: PLC0415

        return WasmProgram(wasm, self._memory_limit)

    def launch(
        self, launch: Launch, receiver: Receiver | None, announce: Callable[[str], None] | None = None
    ) -> Instance:
        """Start an instance in a thread of its own.

        Args:
            launch: what to run.
            receiver: where its output goes; None for a detached instance.
            announce: called with the instance's id before the program runs; must not block.
        """
        instance = Instance(launch, receiver, self.records, self._forget, keeps_output=self._keeps_output)
        with self._lock:
            self._instances[instance.id] = instance
        if announce is not None:
            announce(instance.id)
        try:
            self._workers.run(instance.run, f"instance-{instance.id[:8]}")
        except RuntimeError as error:
            instance.emit(Event.OutOfResources, str(error))
        if self.closing.is_set():
            # close() may have looked for instances before this one was there.
            instance.terminate()
        return instance

    def find(self, instance_id: str, username: str) -> Instance | None:
        """Return the user's instance with this id."""
        with self._lock:
            instance = self._instances.get(instance_id)
        return instance if instance is not None and instance.username == username else None

    def find_attached(self, instance_id: str, receiver: Receiver) -> Instance | None:
        """Return the instance with this id if its output goes to ``receiver``."""
        with self._lock:
            instance = self._instances.get(instance_id)
        return instance if instance is not None and instance.is_attached_to(receiver) else None

    def instances(self, username: str | None = None) -> list[Instance]:
        """Return the instances of one user, or of all."""
        with self._lock:
            return [i for i in self._instances.values() if username is None or i.username == username]

    def attached_to(self, receiver: Receiver) -> list[Instance]:
        """Return the instances whose output goes to ``receiver``."""
        return [instance for instance in self.instances() if instance.is_attached_to(receiver)]

    def terminate(self, instance: Instance) -> None:
        """End an instance and forget it, whatever its status."""
        with self._lock:
            self._instances.pop(instance.id, None)
        instance.terminate()

    def detach(self, receiver: Receiver, unsent: Sequence[Output] = ()) -> None:
        """Detach whatever is attached to ``receiver``; ``unsent`` is what it had taken but could not send."""
        kept: dict[Instance, list[Output]] = {instance: [] for instance in self.attached_to(receiver)}
        for output in unsent:
            kept.setdefault(output.instance, []).append(output)
        for instance, outputs in kept.items():
            instance.detach(receiver, outputs)
            if not instance.spent and any(output.event.terminal for output in outputs):
                # It had been forgotten when its last output was handed over.
                with self._lock:
                    self._instances[instance.id] = instance

    def close(self, deadline: float) -> bool:
        """Terminate all instances and wait until ``deadline``, a ``time.monotonic()``, for their threads.

        Returns:
            False when a program did not notice that it was terminated.
        """
        self.closing.set()
        for instance in self.instances():
            self.terminate(instance)
        return self._workers.close(deadline)

    def _forget(self, instance: Instance) -> None:
        with self._lock:
            # A connection lost this very moment may have given back what it could not send.
            if instance.spent:
                self._instances.pop(instance.id, None)
