"""Options of LocalServer that do not fit the protocol."""

from __future__ import annotations

from typing import Any

import pytest

from pie_sync.testing import LocalServer


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"protocol": "process-0.4"}, "0.2, 0.2-names, 0.3, 0.4, 0.5, instance, process, process-0.5"),
        ({"protocol": "0.2", "variant": "name"}, "names its variant itself"),
        ({"protocol": "0.5", "variant": "name"}, "for the instance protocol"),
        ({"protocol": "0.4", "blobs_lock_up": True}, "for the instance protocol"),
        ({"protocol": "0.2-names", "early_events": True}, "for the process protocol"),
        ({"protocol": "0.4", "early_events": True}, "for Pie 0.5"),
        ({"protocol": "process", "variant": "name"}, "for the instance protocol"),
        ({"protocol": "process-0.5", "challenge_message": True}, "for the instance protocol"),
        ({"protocol": "instance", "early_events": True}, "for the process protocol"),
        ({"variant": "number"}, "hash, name"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        LocalServer(**options)


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(ValueError, match="hash, name"):
        LocalServer(variant="number")


@pytest.mark.parametrize("options", [{"users": {}}, {"internal_token": "secret"}], ids=["users", "token"])
def test_0_5_can_not_be_told_whom_to_let_in(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="authenticates nobody"):
        LocalServer(protocol="0.5", **options)
