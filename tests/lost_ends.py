"""A LocalServer that loses the ends of instances, as the real servers do, and a client that notices it soon."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from pie_sync._session import probes
from pie_sync._session.probes import Pace
from pie_sync.testing._server.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from pie_sync.testing._programs.instance import Output

#: A twentieth of the real pauses.
QUICK = Pace(first=0.05, longest=1.5, confirmation=0.05, look_again=0.02, give_up=1.5)


def probe_soon(monkeypatch: pytest.MonkeyPatch, pace: Pace = QUICK) -> None:
    """Let instances be probed after a short silence."""
    monkeypatch.setattr(probes, "PACE", pace)


class LostEnds:
    """Drops the terminal events of the instances for which ``loses`` says so. All else is as ever.

    Attributes:
        count: how many are lost.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, loses: Callable[[Output], bool] = lambda _: True) -> None:
        self.count = 0
        self._lock = threading.Lock()
        deliver = Channel.deliver

        def deliver_or_lose(channel: Channel, output: Output) -> bool:
            if output.event.terminal and loses(output):
                with self._lock:
                    self.count += 1
                return True
            return deliver(channel, output)

        monkeypatch.setattr(Channel, "deliver", deliver_or_lose)
