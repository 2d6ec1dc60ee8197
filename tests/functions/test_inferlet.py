"""The decorator."""

from __future__ import annotations

import asyncio
import functools
import pickle

import pytest

import pie_sync
from pie_sync import Inferlet, inferlet
from pie_sync import inferlet as another_name

LIMIT = 16


@inferlet
async def complete(prompt: str, max_tokens: int = 16) -> dict[str, int]:
    """Complete a prompt.

    In two paragraphs.
    """
    return {prompt: max_tokens}


@inferlet(name="other", version="1.2.3", description="something else")
def named(a: int, b: int = 1) -> int:
    return a + b


@another_name
def _renamed():
    pass


def test_what_is_derived():
    assert isinstance(complete, Inferlet)
    assert (complete.name, complete.entry, complete.description) == ("complete", "complete", "Complete a prompt.")
    assert complete.source.startswith("async def complete(prompt: str")
    assert complete.program == f"complete@{complete.version}"
    assert complete.is_content_addressed
    assert 'entry = "complete"' in complete.manifest_toml()
    assert repr(complete) == f"<Inferlet {complete.program}>"
    assert complete.__doc__.startswith("Complete a prompt.")
    assert complete.__name__ == "complete"


def test_what_is_given():
    assert named.program == "other@1.2.3"
    assert named.description == "something else"
    assert not named.is_content_addressed


def test_the_decorator_under_other_names():
    assert _renamed.name == "renamed"

    @pie_sync.inferlet
    def dotted():
        pass

    @pie_sync.inferlet(name="x")
    def called():
        pass

    assert (dotted.name, called.name) == ("dotted", "x")


def test_it_is_called_here():
    assert named(1) == 2
    assert named(1, b=5) == 6
    assert asyncio.run(complete("a", max_tokens=3)) == {"a": 3}


def test_its_arguments():
    assert complete.args("a", max_tokens=3) == {"prompt": "a", "max_tokens": 3}
    with pytest.raises(TypeError, match="no parameter 'tokens'"):
        complete.args("a", tokens=3)


def test_an_edited_function_is_another_program():
    def first():
        def f(a):
            return 1

        return f

    def second():
        def f(a):
            return 2

        return f

    def second_again():
        def f(a):
            return 2

        return f

    versions = [inferlet(make()).version for make in (first, second, second_again)]
    assert versions[0] != versions[1] == versions[2]
    assert inferlet(description="x")(first()).version != versions[0]


def test_functions_that_can_not_run_there():
    value = 5

    def closes():
        return value

    def uses():
        return LIMIT

    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args)

        return wrapper

    @decorated
    def wrapped():
        pass

    def ünicode():  # noqa: PLC2401
        pass

    for function, reason in (
        (closes, "uses value of the function around it"),
        (uses, "uses LIMIT from outside"),
        (wrapped, "uses function of the function around it"),
        (ünicode, r"can't be the name of a program.*@inferlet\(name="),
    ):
        with pytest.raises(ValueError, match=reason):
            inferlet(function)
    assert inferlet(name="unicode")(ünicode).name == "unicode"


def test_another_decorator_around_it():
    with pytest.raises(ValueError, match="has the decorator @functools.cache"):

        @functools.cache
        @inferlet
        def cached():
            pass


def test_what_is_no_function():
    for thing in (print, 5, Inferlet):
        with pytest.raises(TypeError, match="must be a function"):
            inferlet(thing)


def test_it_is_pickled_as_its_function_is():
    assert pickle.loads(pickle.dumps(complete)) is complete
