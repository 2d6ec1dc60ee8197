"""Whose exception is it: a library's, or a signal handler's."""

from __future__ import annotations

import binascii
import struct

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
