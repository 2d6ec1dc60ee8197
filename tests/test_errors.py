import pickle

import pytest

import pie_sync
from pie_sync import errors

TREE = {
    "PieError": ("Exception",),
    "AuthenticationError": ("PieError",),
    "RequestError": ("PieError",),
    "UploadError": ("RequestError",),
    "LaunchError": ("RequestError",),
    "AttachError": ("RequestError",),
    "TerminateError": ("RequestError",),
    "ProtocolError": ("PieError",),
    "InstanceEnded": ("PieError",),
    "InstanceFailed": ("PieError",),
    "InvalidKeyError": ("PieError", "ValueError"),
    "PieValueError": ("PieError", "ValueError"),
    "PieTimeoutError": ("PieError", "TimeoutError"),
    "PieConnectionError": ("ConnectionError",),
    "PieConnectTimeoutError": ("PieConnectionError", "TimeoutError"),
}


def test_the_tree_is_the_documented_one():
    actual = {name: tuple(base.__name__ for base in getattr(errors, name).__bases__) for name in errors.__all__}
    assert actual == TREE
    assert set(TREE) <= set(pie_sync.__all__)


def test_each_root_is_reached_by_its_own_kind():
    for name in TREE:
        error = getattr(errors, name)
        assert issubclass(error, errors.PieError) != issubclass(error, ConnectionError), name


@pytest.mark.parametrize("name", ["PieConnectionError", "PieTimeoutError", "ProtocolError", "InvalidKeyError"])
def test_texts(name):
    assert str(getattr(errors, name)("what happened")) == "what happened"


def test_request_errors_survive_pickling():
    """Workers of multiprocessing send their exceptions home."""
    error = pickle.loads(pickle.dumps(errors.LaunchError("launch_instance", "no")))
    assert (error.request, error.reason, str(error)) == ("launch_instance", "no", "launch_instance failed: no")


def test_instance_failed_survives_pickling():
    completed = pie_sync.CompletedInstance(pie_sync.Event.Exception, "trap")
    error = pickle.loads(pickle.dumps(errors.InstanceFailed("id", completed)))
    assert error.completed == completed
    assert str(error) == "instance id ended with Exception: trap"


TRACEBACK = """ValueError: no luck
Traceback (most recent call last):
  File "complete.py", line 5, in complete
    1/0
    ~^~
ZeroDivisionError: division by zero

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/0/app.py", line 158, in run
  File "complete.py", line 7, in complete
    helper()
    ~~~~~~^^
  File "complete.py", line 3, in helper
    raise ValueError('no luck')
ValueError: no luck
"""


def test_the_traceback_of_a_function_is_told_in_one_line():
    error = errors.InstanceFailed("id", pie_sync.CompletedInstance(pie_sync.Event.Exception, TRACEBACK))
    assert str(error) == (
        "instance id ended with Exception: ValueError: no luck"
        " (line 7, in complete: helper(); line 3, in helper: raise ValueError('no luck'))"
    )
    assert error.completed.message == TRACEBACK


def test_a_traceback_without_lines_of_the_program():
    frame = '  File "/0/app.py", line 158, in run\n'
    text = f"TypeError: f()\nTraceback (most recent call last):\n{frame}TypeError: f()\n"
    error = errors.InstanceFailed("id", pie_sync.CompletedInstance(pie_sync.Event.Exception, text))
    assert str(error) == "instance id ended with Exception: TypeError: f()"


@pytest.mark.parametrize(
    "message", ["", "x" * 5_000_000, "\x1b" * 1000, "E\nTraceback (most recent call last):\n" * 99_999]
)
def test_the_repr_is_short(message):
    completed = pie_sync.CompletedInstance(
        pie_sync.Event.OutOfResources, message, id="a" * 36, input={"a": message}
    )
    error = errors.InstanceFailed("a" * 36, completed)
    assert len(repr(error)) < 300
    assert error.input == {"a": message}


@pytest.mark.parametrize("name", ["PieConnectionError", "PieTimeoutError", "PieValueError"])
def test_a_hint_is_behind_the_text_and_survives_pickling(name):
    error = getattr(errors, name)("what happened")
    assert (error.hint, error.text) == (None, "what happened")
    error.hint = "what helps"
    error = pickle.loads(pickle.dumps(error))
    assert (error.hint, error.text, str(error)) == (
        "what helps",
        "what happened",
        "what happened (hint: what helps)",
    )


def test_the_hint_of_a_value():
    error = pickle.loads(pickle.dumps(errors.PieValueError("no", "yes")))
    assert (error.text, error.hint) == ("no", "yes")


def test_a_long_text_does_not_hide_the_hint():
    error = errors.LaunchError("launch_instance", "No such program " + "x" * 5000)
    assert str(error).endswith(f"... (hint: {error.hint})")
