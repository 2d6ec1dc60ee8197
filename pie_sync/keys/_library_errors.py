"""Tells the errors of cryptography and paramiko from exceptions that a signal handler raised while they worked."""

from __future__ import annotations

from .._support.signal_handlers import is_from_signal_handler

__all__ = ["is_library_error"]

# The packages whose exceptions can mean that a key is damaged; the libraries raise nearly anything, such as
# IndexError, AssertionError or NotImplementedError.
_PACKAGES = frozenset({"binascii", "builtins", "bcrypt", "cryptography", "nacl", "paramiko", "struct"})


def is_library_error(error: Exception) -> bool:
    """Say whether parsing a key can have raised this. Parsing does no input or output: an OSError is foreign."""
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in _PACKAGES:
        return False
    return not is_from_signal_handler(error)
