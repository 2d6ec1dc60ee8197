"""The generations of the wire protocol, as servers speak them, and the profile of each kind of server.

Not in here: the state of the server, programs that run, and sockets.
"""
