"""The example that needs a real server."""

from __future__ import annotations

import os
import subprocess
import sys

from . import harness

PRINTED = """\
connected: the process protocol
Stdout: 'Hello, world!'
Stdout: '\\n'
Stdout: 'Hello, world!'
Stdout: '\\n'
Message: 'And who are you?'
Completed: '{"greeted": ["world", "pie-sync"]}'
"""


def test_it_runs_again_and_again(real_server: harness.RealServer):
    example = harness.REPOSITORY / "examples/real_server.py"
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-W", "error", example],
            env=dict(os.environ, PIE_URI=real_server.uri),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (result.returncode, result.stdout, result.stderr) == (0, PRINTED, "")
