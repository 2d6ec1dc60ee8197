"""Which JSON values an annotation allows."""

from __future__ import annotations

import ast

import pytest

from pie_sync._functions.json_kinds import describe, kind_of, kinds_of


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        ("str", {"a string"}),
        ("'str'", {"a string"}),
        ("int", {"an integer"}),
        ("float", {"an integer", "a number"}),
        ("bool", {"a boolean"}),
        ("None", {"null"}),
        ("list", {"a list"}),
        ("list[str]", {"a list"}),
        ("tuple[int, ...]", {"a list"}),
        ("typing.Dict[str, int]", {"an object"}),
        ("Mapping[str, Any]", {"an object"}),
        ("str | None", {"a string", "null"}),
        ("Optional[int]", {"an integer", "null"}),
        ("typing.Union[int, str]", {"an integer", "a string"}),
        ("Annotated[int, 'of tokens']", {"an integer"}),
        ("Literal['a', 'b']", {"a string"}),
        ("Literal['a', 1, None]", {"a string", "an integer", "null"}),
    ],
)
def test_what_is_known(annotation, kinds):
    assert kinds_of(ast.parse(annotation, mode="eval").body) == kinds


@pytest.mark.parametrize(
    "annotation",
    ["Any", "object", "Sequence[str]", "MyClass", "str | MyClass", "f()", "'not ['", "5", "Literal[b'']"],
)
def test_what_is_not_known_allows_all(annotation):
    assert kinds_of(ast.parse(annotation, mode="eval").body) is None
    assert kinds_of(None) is None


def test_the_kind_of_a_value():
    class Text(str):
        pass

    values = ["", Text(), 1, 1.5, True, None, [], (), {}]
    kinds = [
        *("a string", "a string", "an integer", "a number", "a boolean"),
        *("null", "a list", "a list", "an object"),
    ]
    assert [kind_of(value) for value in values] == kinds
    assert kind_of(object()) is kind_of({1}) is kind_of(b"") is None


def test_as_text():
    assert describe(frozenset({"a number", "an integer"})) == "a number"
    assert describe(frozenset({"null", "a string"})) == "a string or null"
