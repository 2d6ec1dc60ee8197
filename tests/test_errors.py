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
