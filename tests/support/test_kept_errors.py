"""Errors that are kept, and raised later."""

from __future__ import annotations

import gc
import weakref

import pytest

from pie_sync import PieConnectionError
from pie_sync._support.kept_errors import copy_of_error, without_frames


class Thing:
    pass


def caught_beside(thing: Thing) -> PieConnectionError:
    def fail() -> None:
        held = thing
        try:
            raise OSError("reset")
        except OSError as error:
            raise PieConnectionError(f"lost {held is thing}") from error

    try:
        fail()
    except PieConnectionError as error:
        return error
    raise AssertionError


def test_each_copy_has_a_traceback_of_its_own() -> None:
    error = PieConnectionError("lost")
    for _ in range(3):
        with pytest.raises(PieConnectionError, match="^lost$") as caught:
            raise copy_of_error(error)
        assert caught.value.__cause__ is error
    assert error.__traceback__ is None


def test_what_the_frames_held_is_freed_at_once() -> None:
    gc.disable()
    try:
        thing = Thing()
        gone = weakref.ref(thing)
        kept = without_frames(caught_beside(thing))
        del thing
        assert gone() is None
        assert isinstance(kept.__cause__, OSError), "the reason stays"
    finally:
        gc.enable()
