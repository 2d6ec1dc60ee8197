"""The state of a server that all dialects share: users, programs, instances, and the connections of clients.

Not in here: the format of protocol messages. The dialects translate between messages and this room.
"""
