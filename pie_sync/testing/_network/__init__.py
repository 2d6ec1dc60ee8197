"""Connections of clients: TCP, TLS, WebSocket frames, threads.

Not in here: anything that knows Pie.
"""
