"""What this package relies on where threads share something without a lock of its own.

Nothing may rest on the interpreter lock: Python can be built without it. So only this is relied on, which the
documentation promises with and without it (its page "Thread Safety Guarantees" and that of ``collections.deque``):

- One operation on a ``deque`` (append, popleft, pop), a ``dict`` (look-up, assignment, pop, setdefault, copy), a
  ``set`` (add, discard) or a ``list`` (append, pop) is atomic, if its keys are text, numbers or plain objects.
- Operations that change the same object happen one after the other, and who comes later sees what came before.
- A lock: who acquires it sees everything that happened before it was released.
- Assignment to an attribute is atomic. It orders nothing else: another thread may see it late.

It follows that two steps are never one: "look, then change" needs a lock, or an operation that is both. For
example, ``dict.setdefault`` decides which of two threads came first (:class:`pie_sync._runs.launch.Launch`). And
numbers that must differ are counted under a lock (:class:`PendingRequests`), since the documentation promises
nothing of ``itertools.count``.

**Who appends and then looks for waiters, against who waits and then looks again.** Each of two threads writes one
thing and then reads the other's. With the interpreter lock one of them is first, and the second sees it. Without,
a processor may let both read before either has written, and a consumer would sleep beside its event. So:

- :class:`EventQueue` and :class:`Waiters`: the event is put under the queue's mutex, and the consumer, already in
  line, looks for it under the mutex. If the event was put before, the consumer sees it. If not, the consumer was
  in line before the mutex was acquired for the event, and whoever put that and looks for waiters then sees it.
- The fast path of an :class:`EventQueue` puts events without the mutex. It is taken only where there is an
  interpreter lock: see :data:`HAS_INTERPRETER_LOCK`.
- :class:`SignalSafeQueue` has one consumer. If a ``put`` finds the lock released already, the consumer has yet to
  acquire it, and looks into the deque after that. Its look is a ``popleft``, which comes before or after the
  ``append`` of that ``put``: if after, it finds the item. If before, the consumer had acquired the lock before the
  ``append``, and so before the ``put`` looked at the lock: it would not have found it released.
- A control frame or a message that is left to whoever holds the send lock (:meth:`WebSocket.post`) may be
  overlooked without an interpreter lock: it is sent with the next message, or when the reader thread wakes, if
  only for the next ping. No event and no answer depends on it.
"""

from __future__ import annotations

import sys

__all__ = ["HAS_INTERPRETER_LOCK"]

#: Whether only one thread at a time runs Python code, in the order in which it is written.
HAS_INTERPRETER_LOCK: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
