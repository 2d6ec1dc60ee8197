"""Inferlets in files."""

from __future__ import annotations

import pickle

import pytest

from pie_sync import inferlet
from pie_sync._functions.script import load_script

ONE = """
import nothing_of_that_name

from pie_sync import inferlet

@inferlet(name="done", version="1.0.0")
async def complete(prompt: str) -> str:
    '''Complete.'''
    return prompt

def helper():
    return nothing_of_that_name
"""


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text)
        return path

    return write


def test_the_one_that_is_decorated(script):
    loaded = load_script(script(ONE))
    assert (loaded.program, loaded.entry, loaded.description) == ("done@1.0.0", "complete", "Complete.")
    assert loaded.source == "async def complete(prompt: str) -> str:\n    '''Complete.'''\n    return prompt\n"


def test_a_plain_one_by_its_name(script):
    path = script("def one(): return 1\n\ndef two(a): return a\n")
    assert load_script(path, "two").name == "two"
    with pytest.raises(
        ValueError, match=r"several functions: say which one, of .*script\.py:one, .*script\.py:two"
    ):
        load_script(path)
    assert load_script(script("X = 1\ndef one(): return 1\n")).name == "one"


def test_it_is_the_same_as_the_imported_one(script):
    namespace = {"inferlet": inferlet}
    path = script("def f(a: int = 1):\n    '''Doc.'''\n    return a\n")
    exec(compile(path.read_text(), path, "exec"), namespace)
    assert load_script(path).program == inferlet(namespace["f"]).program


@pytest.mark.parametrize(
    ("text", "function", "reason"),
    [
        ("x = 1", None, "defines no function$"),
        ("def f(): pass", "g", r"defines no function 'g' \(it has f\)"),
        ("def f(): pass", "", r"defines no function ''"),
        (ONE, "helper", "uses nothing_of_that_name from outside"),
        ("@inferlet\ndef f(): pass\n@inferlet\ndef g(): pass", None, "several functions"),
        ("@inferlet(name=NAME)\ndef f(): pass", None, "name must be a literal"),
        ("@inferlet(nam='x')\ndef f(): pass", None, "the options are name, version, description"),
        ("@inferlet('x')\ndef f(): pass", None, "the options are name, version, description"),
        ("@inferlet(**{})\ndef f(): pass", None, "the options are"),
        ("@cache\n@inferlet\ndef f(): pass", None, "has the decorator @cache"),
        ("def f(: pass", None, "is not Python"),
    ],
)
def test_what_is_wrong(script, text, function, reason):
    with pytest.raises(ValueError, match=reason):
        load_script(script(text), function)


def test_what_it_can_not_do(script):
    loaded = load_script(script(ONE))
    with pytest.raises(TypeError, match="was read from a file"):
        loaded("x")
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(loaded)
