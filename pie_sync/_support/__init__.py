"""What several rooms need and none owns: time limits, signal handlers, a signal-safe queue, counters, large pages.

Not in here: anything that knows Pie, a message or a connection.
"""
