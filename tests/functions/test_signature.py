"""The parameters of a function, and which arguments fit."""

from __future__ import annotations

import ast
import pickle

import pytest

from pie_sync._functions.signature import Signature
from pie_sync.events import ResultForm


def signature(header: str) -> Signature:
    return Signature(ast.parse(f"def f{header}: pass").body[0])


COMPLETE = signature("(prompt: str, max_tokens: int = 16, *, stop: list = (), temperature: float = None)")


def test_arguments_that_fit():
    for args in (
        {"prompt": "x"},
        {"prompt": "x", "max_tokens": 1, "stop": ["a"], "temperature": 1},
        {"prompt": "", "temperature": 0.5},
        {"prompt": "", "temperature": None},  # its default is None
    ):
        assert COMPLETE.check(args) == args


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({}, r"f\(\) needs 'prompt': its parameters are prompt, max_tokens=16, stop=\(\), temperature=None"),
        ({"prompt": "x", "tokens": 3}, "has no parameter 'tokens'"),
        ({"prompt": 5}, "'prompt' must be a string, not an integer"),
        ({"prompt": None}, "'prompt' must be a string, not null"),
        ({"prompt": b"x"}, "'prompt' must be a string, not bytes"),
        ({"prompt": "x", "max_tokens": True}, "'max_tokens' must be an integer, not a boolean"),
        ({"prompt": "x", "max_tokens": 1.0}, "'max_tokens' must be an integer, not a number"),
        ({"prompt": "x", "max_tokens": None}, "'max_tokens' must be an integer, not null"),
        ({"prompt": "x", "temperature": "hot"}, "'temperature' must be a number or null, not a string"),
        ({"prompt": "x", "temperature": float("nan")}, "'temperature' is not serialisable as JSON"),
        ({"prompt": "x", "stop": [object()]}, "'stop' is not serialisable as JSON"),
        ({1: "x"}, "names in args must be str, not int"),
        (["Hello"], "takes its arguments by name, got 'Hello' without one"),
        (["--prompt"], r"f\(\): --prompt needs a value"),
        ({"prompt": "\ud800"}, "'prompt' is not serialisable as JSON: .*surrogates"),
        ({"prompt": "x", "stop": ["\ud800"]}, "'stop' is not serialisable as JSON: .*surrogates"),
    ],
)
def test_arguments_that_do_not_fit(args, reason):
    with pytest.raises(TypeError, match=reason):
        COMPLETE.check(args)


def test_words_of_a_command_line():
    assert COMPLETE.check(["--prompt", "5", "--max-tokens", "5"]) == {"prompt": "5", "max_tokens": 5}
    assert signature("(a: str | None, b)").check(["--a", "true", "--b", "true"]) == {"a": "true", "b": True}
    assert signature("(a: str | int)").check(["--a", "5"]) == {"a": 5}


def test_any_names():
    assert signature("(**rest)").check({"a": [1]}) == {"a": [1]}
    with pytest.raises(TypeError, match="'a' is not serialisable"):
        signature("(**rest)").check({"a": {1}})


def test_a_call():
    assert COMPLETE.bind(("x", 5), {"temperature": 1.5}) == {"prompt": "x", "max_tokens": 5, "temperature": 1.5}
    for args, kwargs, reason in (
        (("x", 1, []), {}, "takes 2 positional arguments, got 3"),
        (("x",), {"prompt": "y"}, "two values for 'prompt'"),
        ((), {}, "needs 'prompt'"),
    ):
        with pytest.raises(TypeError, match=reason):
            COMPLETE.bind(args, kwargs)


def test_positional_only_parameters_can_not_be_passed():
    with pytest.raises(ValueError, match=r"positional-only parameters \(a, b\).*leave out the /"):
        signature("(a, b, /, c)")


def test_what_a_manifest_knows():
    given = signature("(a: str, b: int, c: float, d: bool, e: list, f, g: int = None, h: str | int = 1)")
    assert [one.manifest_type for one in given.parameters.values()] == [
        *("string", "int", "float", "bool", None, None, "int", None)
    ]


@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("()", ResultForm.JSON),
        ("() -> dict", ResultForm.JSON),
        ("() -> str", ResultForm.TEXT),
        ("() -> 'str'", ResultForm.TEXT),
        ("() -> str | None", ResultForm.TEXT_OR_NONE),
        ("() -> str | int", ResultForm.JSON_OR_TEXT),
    ],
)
def test_the_form_of_the_result(header, form):
    assert signature(header).result_form is form


def test_it_travels_to_a_worker():
    assert pickle.loads(pickle.dumps(COMPLETE)).check({"prompt": "x"}) == {"prompt": "x"}
