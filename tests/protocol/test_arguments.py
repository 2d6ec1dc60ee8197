"""Arguments in their two forms, and the rule between them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pie_sync._protocol.arguments import as_json, as_strings

# What the official command line (pie-client 0.5.3) makes of these arguments, read off its answers.
RULE = [
    ([], {}),
    (["--max-tokens", "5"], {"max_tokens": 5}),
    (["--temperature", "0.5", "--greedy"], {"temperature": 0.5, "greedy": True}),
    (["--greedy", "--prompt", "Hi there"], {"greedy": True, "prompt": "Hi there"}),
    (["--flag", "true", "--other", "false"], {"flag": True, "other": False}),
    (["--text", "True"], {"text": "True"}),
    (["one", "2", "--x", "y", "3.5"], {"_positional": ["one", 2, 3.5], "x": "y"}),
    (["-n", "5", "-p", "--text"], {"n": 5, "p": "--text"}),
    (["-n"], {}),
    (["-name"], {"_positional": ["-name"]}),
    (["--x", "-5"], {"x": True}),
    (["--x=5"], {"x=5": True}),
    (["--x", "1", "--x", "2"], {"x": 2}),
]


@pytest.mark.parametrize(("strings", "value"), RULE)
def test_strings_become_what_the_official_command_line_makes_of_them(strings, value):
    assert json.loads(as_json(strings)) == value


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_stay_text(text):
    assert json.loads(as_json(["--x=", text, "y"]))  # valid JSON in any case
    if not text.startswith("-"):
        assert json.loads(as_json(["--x", text])) == {"x": text}


def test_a_mapping_is_the_json_as_it_is():
    value = {"a": [1, {"b": None}], "text": "5", "ü": 1.5}
    assert json.loads(as_json(value)) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [({"x": object()}, TypeError), ({"x": float("nan")}, ValueError), ({"x": b"bytes"}, TypeError)],
)
def test_what_json_can_not_say(value, kind):
    with pytest.raises(kind, match="args are not serialisable as JSON"):
        as_json(value)


@pytest.mark.parametrize(
    ("value", "strings"),
    [
        ({}, []),
        (
            {"max_tokens": 5, "greedy": True, "sample": False},
            ["--max-tokens", "5", "--greedy", "--sample", "false"],
        ),
        ({"prompt": "Hi there", "temperature": 0.5}, ["--prompt", "Hi there", "--temperature", "0.5"]),
        ({"_positional": ["a", 1], "x": True}, ["a", "1", "--x"]),
    ],
)
def test_a_mapping_becomes_command_line_arguments(value, strings):
    assert as_strings(value) == strings


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"x": [1]}, r"args\['x'\] is a list, which this server does not take"),
        ({"x": None}, "is a NoneType"),
        ({"x": {"y": 1}}, "is a dict"),
        ({"x": -5}, "'-5', which this server would take for an option"),
        ({"x": "--y"}, "would take for an option"),
        ({"a-b": 1}, "use underscores"),
        ({"": 1}, "can't be a command-line option"),
        ({5: 1}, "names in args must be str"),
        ({"_positional": "text"}, "must be a list"),
        ({"_positional": [["nested"]]}, "is a list"),
    ],
)
def test_what_can_not_be_told_on_a_command_line(value, reason):
    with pytest.raises((TypeError, ValueError), match=reason):
        as_strings(value)


names = st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True).filter(lambda name: name != "_positional")
texts = st.text(max_size=20).filter(
    lambda text: not text.startswith("-") and as_json(["--x", text]) == json.dumps({"x": text})
)
values = (
    st.booleans()
    | st.integers(min_value=0)
    | st.floats(min_value=0, allow_nan=False, allow_infinity=False)
    | texts
)


@given(st.dictionaries(names, values))
def test_there_and_back(value):
    """What is told on a command line, the rule reads back as it was."""
    assert json.loads(as_json(as_strings(value))) == value
