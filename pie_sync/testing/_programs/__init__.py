"""Instances, the Python functions and WebAssembly modules that run in them, and the records of them.

Not in here: users, protocol messages and sockets.
"""
