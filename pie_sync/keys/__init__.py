"""Private keys that authenticate a user: loading, SSH agents, signing.

Importing this package is quick: cryptography and paramiko are imported when the first key is loaded. This package
never connects to a server.
"""

from ._private_key import ParsedPrivateKey

__all__ = ["ParsedPrivateKey"]
