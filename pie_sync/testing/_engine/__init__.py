"""The real Pie server in a child process: its model, its configuration, and what it needs on this machine.

Not in here: LocalServer, which is a server of its own, and the client.
"""
