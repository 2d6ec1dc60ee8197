"""Whose exception is it: a library's, or a signal handler's."""

from __future__ import annotations

import binascii
import signal
import struct
from types import FrameType

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko import SSHException

from pie_sync.keys._library_errors import is_library_error


class Watchdog(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError(), IndexError(), AssertionError(), NotImplementedError(), TypeError()),
        *(binascii.Error(), struct.error(), UnsupportedAlgorithm(""), SSHException()),
    ],
    ids=repr,
)
def test_a_library_s(error):
    assert is_library_error(error)


@pytest.mark.parametrize("error", [TimeoutError(), OSError(), InterruptedError(), Watchdog()], ids=repr)
def test_a_signal_handler_s(error):
    assert not is_library_error(error)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="a signal of the user's own")
def test_a_signal_handler_raises_what_a_library_raises_as_well():
    def handler(signum: int, frame: FrameType | None) -> None:
        raise ValueError("enough")

    def parse() -> None:
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        parse()
    except ValueError as error:
        assert not is_library_error(error)
    finally:
        signal.signal(signal.SIGUSR1, before)
