"""A program for the local server: ``pie-sync serve examples/greet.py``, then ``pie-sync run greet -- world``."""

from pie_sync.testing import ProgramContext


def main(context: ProgramContext) -> str:
    return f"Hello, {context.args[0]}!"
