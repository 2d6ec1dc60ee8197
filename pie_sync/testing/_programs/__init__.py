"""Instances, and what runs in them: Python functions and WebAssembly.

Not in here: users, protocols, sockets.
"""
