"""What an import of pie_sync.testing loads."""

from __future__ import annotations

import subprocess
import sys


def test_a_package_without_the_server_can_be_imported() -> None:
    program = (
        "import sys; sys.modules['websockets'] = None; import pie_sync.testing as testing;"
        " print('LocalServer' in dir(testing), hasattr(testing, 'Local')); testing.LocalServer"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.stdout == "True False\n"
    assert result.stderr.splitlines()[-1].startswith("ModuleNotFoundError: ")
