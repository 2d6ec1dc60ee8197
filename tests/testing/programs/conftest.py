"""A fixture that runs WebAssembly to its end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.testing.raw import RawClient

Run = Callable[..., tuple[str, str, tuple[int, str]]]


@pytest.fixture
def run(client: RawClient) -> Run:
    """A function that uploads a program, runs it to its end and returns (stdout, stderr, end)."""

    def run(wasm: bytes, *arguments: str) -> tuple[str, str, tuple[int, str]]:
        return client.output(client.start(wasm, *arguments))

    return run
