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
    assert result.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: pie_sync.testing.LocalServer needs websockets, which is not installed:"
        " pip install 'pie-sync[testing]'"
    )


def test_webassembly_without_its_package_is_refused() -> None:
    program = (
        "import sys; sys.modules['wasmtime'] = None\n"
        "from pie_sync import PieClient, UploadError\n"
        "from pie_sync.testing import LocalServer\n"
        "with LocalServer() as server, PieClient(server.uri) as client:\n"
        "    client.authenticate('alice')\n"
        "    try:\n"
        "        client.upload_program(b'')\n"
        "    except Exception as error:\n"
        "        print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "wasmtime, which is not installed: pip install 'pie-sync[testing]'" in result.stderr, result.stdout
