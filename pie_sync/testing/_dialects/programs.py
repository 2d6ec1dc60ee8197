"""Stand-ins for uploaded programs that can't run."""

from __future__ import annotations

from ...events import Event
from .._programs.instance import Instance

__all__ = ["NoRunInterface"]

NO_RUN = "No 'run' interface found"


class NoRunInterface:
    """A component without the export that the server looks for."""

    def run(self, _instance: Instance) -> tuple[Event, str]:
        """Fail."""
        return Event.Exception, NO_RUN
