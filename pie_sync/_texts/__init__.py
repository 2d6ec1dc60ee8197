"""What people read of errors and results: hints, and how values show themselves. A leaf.

Not in here: the errors and results themselves, and text from servers, which `_printable.py` makes harmless.
"""
