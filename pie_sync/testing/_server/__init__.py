"""What a server knows, whichever protocol its clients speak: programs, users, connections.

Not in here: how a message looks.
"""
