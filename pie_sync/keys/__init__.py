"""The private key that proves to the server who you are: loading, agents, signing.

Importing this is quick. What loads a key imports paramiko, and is imported only when a key is loaded.
"""

from ._private_key import ParsedPrivateKey

__all__ = ["ParsedPrivateKey"]
