"""Stand-ins for programs that can't run. test_recorded.py shows what clients see of them."""

from __future__ import annotations

from typing import cast

from pie_sync import Event
from pie_sync.testing._dialects.programs import NoRunInterface
from pie_sync.testing._programs.instance import Instance

NO_INSTANCE = cast(Instance, None)


def test_a_component_without_a_run_export_fails() -> None:
    assert NoRunInterface().run(NO_INSTANCE) == (Event.Exception, "No 'run' interface found")
