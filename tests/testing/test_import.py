"""What an import of pie_sync.testing loads."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


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


@pytest.mark.parametrize("protocol", ["0.2", "0.2-names", "0.3", "0.4", "0.5"])
def test_webassembly_without_its_package_is_refused(protocol: str) -> None:
    """The client is told what is missing: by the answer to its upload, or to the launch, when Pie 0.5 compiles."""
    name = "std/a" if protocol == "0.2-names" else "a"
    program = (
        "import sys; sys.modules['wasmtime'] = None\n"
        "from pie_sync import PieClient\n"
        "from pie_sync.testing import LocalServer\n"
        f"with LocalServer(protocol={protocol!r}) as server, PieClient(server.uri) as client:\n"
        "    client.authenticate('alice')\n"
        f'    manifest = \'[package]\\nname = "{name}"\\nversion = "1.0.0"\\n\'\n'
        "    try:\n"
        "        client.upload_program(b'\\0asm\\1\\0\\0\\0', manifest=manifest)\n"
        "        client.launch('a@1.0.0')\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert re.fullmatch(
        r"(UploadError|LaunchError) .*WebAssembly needs wasmtime, which is not installed:"
        r" pip install 'pie-sync\[testing\]'.*\n",
        result.stdout,
    ), result
    assert result.stderr == ""
