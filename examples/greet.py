"""A program for ``pie-sync serve``, and the shortest one there is.

Start it with ``pie-sync serve examples/greet.py``; run it with
``pie-sync run greet -- world`` in another terminal.
"""

from pie_sync.testing import ProgramContext


def main(context: ProgramContext) -> str:
    return f"Hello, {context.args[0]}!"
