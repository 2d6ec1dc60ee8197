"""One WebSocket connection: TCP, proxies, TLS, handshake, frames, keep-alive.

Not in here: anything that knows Pie. What travels is bytes.
"""
