"""Whatever may be given for a function."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync import inferlet
from pie_sync._functions.function_program import function_program


def plain(a: int) -> int:
    return a


class Official:
    """Looks like an inferlet of the official client."""

    program = "beam-search@0.123.456"
    source = "def beam(prompt: str) -> str:\n    return prompt\n"

    def manifest_toml(self):
        return '[package]\nname = "beam-search"\nversion = "0.123.456"\n'


def test_a_function_decorated_or_not():
    first, second = function_program(plain), function_program(inferlet(plain))
    assert first == second._replace(signature=first.signature)
    assert first.program.name == "plain"
    assert first.is_content_addressed
    assert first.signature.check({"a": 1}) == {"a": 1}
    assert function_program(plain) is first  # read once


def test_a_file(tmp_path):
    path = tmp_path / "script.py"
    path.write_text("def one(): return 1\ndef two(): return 2\n")
    assert function_program(f"{path}:two").program.name == "two"
    assert function_program(Path(f"{path}:one")).program.name == "one"
    with pytest.raises(FileNotFoundError):
        function_program(tmp_path / "missing.py")


def test_one_of_the_official_client():
    found = function_program(Official())
    assert found.program.name == "beam-search"
    # Its own version says too little of its contents.
    assert found.program.version.startswith("0.")
    assert len(found.program.version) > 60
    assert found.is_content_addressed
    with pytest.raises(TypeError, match="has no parameter 'x'"):
        found.signature.check({"prompt": "a", "x": 1})


def test_one_whose_source_tells_no_signature():
    for source in ("not Python (", "def f(): pass\ndef g(): pass\n", ""):
        thing = Official()
        thing.source = source
        assert function_program(thing).signature is None


@pytest.mark.parametrize("thing", ["name", "name@1.0.0", "ab" * 32, "x.wasm", Path("x"), b"x", 5, None])
def test_what_is_no_function(thing):
    assert function_program(thing) is None
