"""What `import pie_sync` costs, and what it gives."""

import subprocess
import sys

import pie_sync
import pie_sync.testing

HEAVY = ["paramiko", "cryptography", "numpy", "wasmtime", "websockets", "asyncio", "tomllib", "html"]


def test_import_is_quick():
    program = f"import sys, pie_sync; print([name for name in {HEAVY} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_the_api_is_what_is_listed():
    public = {name for name in dir(pie_sync) if not name.startswith("_")}
    modules = {"batch", "cli", "client", "errors", "events", "instance", "keys", "testing", "annotations"}
    assert public - modules == set(pie_sync.__all__) - {"__version__"}


def test_everything_public_is_documented():
    for name in pie_sync.__all__:
        thing = getattr(pie_sync, name)
        if name == "__version__":
            continue
        assert thing.__doc__, name
        for attribute, value in vars(thing).items():
            if callable(value) and not attribute.startswith("_"):
                assert value.__doc__, f"{name}.{attribute}"
