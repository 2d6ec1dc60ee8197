"""One session: all that its reader thread touches, from pending requests to the queues of events.

Not in here: how a client authenticates, finds its programs, or reconnects.
"""
