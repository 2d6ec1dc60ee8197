"""The generations of the protocol, as servers speak them.

Not in here: what a program or a user is.
"""
