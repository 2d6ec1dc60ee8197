"""Network connections of clients: TCP, TLS, WebSocket frames, and a pool of threads.

Not in here: Pie. Nothing in this folder knows programs, users or protocol messages.
"""
