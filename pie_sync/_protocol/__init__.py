"""The wire protocols: messages of each generation <-> common dataclasses. Pure: no sockets, threads or clock.

``messages.py`` holds what both generations have in common, ``instance.py`` speaks the instance protocol
(Pie up to 0.2).
"""
