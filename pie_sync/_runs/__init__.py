"""``run`` and ``map``: launches that are followed from a request to a result.

Not in here: batches over several processes, which are in ``batch/``.
"""
