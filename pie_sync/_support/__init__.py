"""What several rooms need and none owns: time limits, signals, counters, large pages, what is atomic.

Not in here: anything that knows Pie, a message or a connection.
"""
