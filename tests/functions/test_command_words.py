"""The arguments of a function as words of a command line."""

from __future__ import annotations

import ast

import pytest

from pie_sync._functions.command_words import parse_words
from pie_sync._functions.signature import Signature

HEADER = (
    "(prompt: str, limit: int = 1, heat: float = 0.5, greedy: bool = False, stop: list = [],"
    " options: 'dict | None' = None, maybe: 'str | None' = None, either: 'str | int' = 0,"
    " several: 'list[int] | str' = '', flag: 'bool | str' = '', free=None)"
)
SIGNATURE = Signature(ast.parse(f"def f{HEADER}: pass").body[0])
KINDS = {name: one.kinds for name, one in SIGNATURE.parameters.items()}


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--prompt", "5"], {"prompt": "5"}),
        (["--prompt", "true"], {"prompt": "true"}),
        (["--prompt", "-3"], {"prompt": "-3"}),
        (["--prompt", "--really"], {"prompt": "--really"}),
        (["--prompt=--greedy"], {"prompt": "--greedy"}),
        (["--prompt="], {"prompt": ""}),
        (["--prompt=a=b", "--limit=2"], {"prompt": "a=b", "limit": 2}),
        (["--limit", "-3", "--heat", "-1e3"], {"limit": -3, "heat": -1000.0}),
        (["--heat", "1"], {"heat": 1}),
        (["--greedy", "--limit", "2"], {"greedy": True, "limit": 2}),
        (["--greedy", "false"], {"greedy": False}),
        (["--greedy=true"], {"greedy": True}),
        (["--stop", "[1, 2]"], {"stop": [1, 2]}),
        (["--stop", "[1, 2"], {"stop": "[1, 2"}),
        (["--options", '{"a": [null]}'], {"options": {"a": [None]}}),
        (["--options", "null"], {"options": None}),
        (["--maybe", "null"], {"maybe": "null"}),
        (["--either", "5"], {"either": 5}),
        (["--either", "five"], {"either": "five"}),
        (["--either", "1.5"], {"either": "1.5"}),
        (["--several", "[1]"], {"several": [1]}),
        (["--several", '{"a": 1}'], {"several": '{"a": 1}'}),
        (["--flag"], {"flag": True}),
        (["--flag", "x"], {"flag": "x"}),
        (["--flag", "--limit", "2"], {"flag": True, "limit": 2}),
        (["--free", "5"], {"free": 5}),
        (["--free", "-5"], {"free": True}),
        (["--free=-5"], {"free": -5}),
        (["--unknown=1"], {"unknown": 1}),
        (["a", "2"], {"_positional": ["a", 2]}),
        (["-n", "3", "--limit", "1"], {"n": 3, "limit": 1}),
    ],
)
def test_words(words, options):
    assert parse_words(words, KINDS) == options


@pytest.mark.parametrize("words", [["--prompt"], ["--prompt", "--limit", "3"], ["--limit"]])
def test_an_option_without_its_value(words):
    with pytest.raises(TypeError, match=f"{words[0]} needs a value; {words[0]}=VALUE takes one"):
        parse_words(words, KINDS)
