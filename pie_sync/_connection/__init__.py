"""What a client makes of a session: endpoint, authentication, programs, reconnection, validation of arguments.

Not in here: launching instances and following them to their ends.
"""
