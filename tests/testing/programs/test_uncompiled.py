"""What is kept of a program that could not be compiled."""

from __future__ import annotations

from typing import cast

import pytest

from pie_sync.testing._programs.instance import Instance
from pie_sync.testing._programs.uncompiled import NOT_COMPILED, Uncompiled


def test_it_is_never_run() -> None:
    with pytest.raises(AssertionError, match=NOT_COMPILED):
        Uncompiled().run(cast("Instance", None))
