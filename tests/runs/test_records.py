"""Outcomes as JSON, and back."""

import json

import pytest

from pie_sync import (
    Blob,
    CompletedInstance,
    Event,
    InstanceFailed,
    LaunchError,
    PieError,
    PieTimeoutError,
    ProtocolError,
)
from pie_sync._runs.records import normalised, record, restore
from pie_sync.events import ResultForm

FULL = CompletedInstance(
    Event.Completed, "r\n\udc80", "out\N{PIE}", "err", ("a", "b"), (Blob(b"\0\xff", "x.bin"), Blob(b""))
)


@pytest.mark.parametrize(
    "outcome",
    [
        FULL,
        CompletedInstance(Event.Completed, ""),
        InstanceFailed("i-1", CompletedInstance(Event.Exception, "ValueError: no", "so far")),
        LaunchError("map", "too many"),
        PieTimeoutError("late"),
        ProtocolError("nonsense"),
    ],
    ids=repr,
)
def test_there_and_back(outcome):
    line = json.loads(json.dumps(record(["a"], outcome)))
    assert line["input"] == ["a"]
    back = restore(line)
    assert type(back) is type(outcome)
    assert str(back) == str(outcome)
    if isinstance(outcome, InstanceFailed):
        assert (back.instance_id, back.completed) == (outcome.instance_id, outcome.completed)
    elif not isinstance(outcome, Exception):
        assert back == outcome
        assert [blob.name for blob in back.blobs] == [blob.name for blob in outcome.blobs]


def test_an_error_of_a_kind_that_is_not_known():
    error = restore({"input": [], "event": None, "message": "?", "error": "OfTheFuture"})
    assert (type(error), str(error)) == (PieError, "?")


def test_blobs_in_files(tmp_path):
    line = json.loads(json.dumps(record([], FULL, tmp_path / "blobs")))
    assert [path.read_bytes() for path in sorted((tmp_path / "blobs").iterdir())] == [b"", b"\0\xff"]
    assert restore(line).blobs == FULL.blobs


def test_a_folder_that_can_not_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        record([], FULL, tmp_path / "file")


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        (("a", "b"), ["a", "b"]),
        ({"n": 1, "list": (1, 2)}, {"n": 1, "list": [1, 2]}),
        ("text", None),
        (5, None),
        ({"n": b""}, None),
    ],
)
def test_normalised(args, kept):
    assert normalised(args) == kept


def test_what_comes_back_has_its_input_and_its_form():
    back = restore(record(["a"], CompletedInstance(Event.Completed, "7")), ResultForm.TEXT)
    assert (back.input, back.value, back.elapsed) == (["a"], "7", None)
    failed = restore(record(["a"], InstanceFailed("i-1", CompletedInstance(Event.Exception, "no"))))
    assert (failed.input, failed.completed.id) == (["a"], "i-1")
    assert restore(record({"n": 1}, PieTimeoutError("late"))).input == {"n": 1}
