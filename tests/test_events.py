import pickle

import pytest

from pie_sync import Blob, CompletedInstance, Event
from pie_sync.events import LaunchRecord, ResultForm


def test_values_are_those_of_the_protocol_and_the_client_api():
    names = "Message Completed Aborted Exception ServerError OutOfResources Blob Stdout Stderr"
    assert [(event.name, event.value) for event in Event] == list(zip(names.split(), range(9)))


def test_terminal():
    terminal = {Event.Completed, Event.Aborted, Event.Exception, Event.ServerError, Event.OutOfResources}
    assert {event for event in Event if event.terminal} == terminal


SENT = (
    (Event.Stdout, "out 1 "),
    (Event.Message, "message"),
    (Event.Blob, Blob(b"blob", "name")),
    (Event.Stdout, "out 2"),
    (Event.Stderr, "err"),
    (Event.Completed, "[1, 2]"),
)


def test_all_that_an_instance_sent():
    launch = LaunchRecord({"a": 1}, 10.0)
    completed = CompletedInstance.from_events(SENT, "id", launch, 12.5)
    assert completed == CompletedInstance(
        Event.Completed, "[1, 2]", "out 1 out 2", "err", ("message",), (Blob(b"blob"),)
    )
    assert completed.blobs[0].name == "name"
    assert (completed.id, completed.input, completed.elapsed) == ("id", {"a": 1}, 2.5)
    assert completed.ok
    assert completed.value == [1, 2]


def test_the_value_by_the_form_of_the_result():
    def value(message, form):
        return CompletedInstance(Event.Completed, message, _result_form=form).value

    assert [value(text, ResultForm.JSON) for text in ("", "null", "5", '"a"')] == [None, None, 5, "a"]
    assert [value(text, ResultForm.TEXT) for text in ("", "null", "5")] == ["", "null", "5"]
    assert [value(text, ResultForm.TEXT_OR_NONE) for text in ("", "null", "5")] == [None, "null", "5"]


@pytest.mark.parametrize("message", ["Hello!", "{", "x" * 1_000_000, "[" * 1_000_000, "9" * 5000])
def test_a_value_that_is_no_json(message):
    with pytest.raises(ValueError, match="not JSON: ") as caught:
        CompletedInstance(Event.Completed, message).value  # noqa: B018
    assert message[:5] in str(caught.value)
    assert len(str(caught.value)) < 300


def test_no_value_of_a_failed_one():
    completed = CompletedInstance(Event.Exception, "trap")
    assert not completed.ok
    with pytest.raises(ValueError, match="ended with Exception: 'trap'"):
        completed.value  # noqa: B018


@pytest.mark.parametrize("text", ["", "short", "x" * 4_000_000, "\x00" * 100, "\U0010ffff" * 61])
def test_the_repr_is_short(text):
    blobs = (Blob(bytes(1_000_000)),) * 3
    completed = CompletedInstance(
        Event.OutOfResources, text, text, text, (text,) * 1000, blobs, "a" * 36, {"a": text}, 123456.789
    )
    shown = repr(completed)
    assert len(shown) < 300
    assert "OutOfResources" in shown
    assert "3 blobs of 3000000 bytes" in shown
    assert repr(CompletedInstance(Event.Completed, "done")) == "<CompletedInstance Completed, message='done'>"


def test_it_survives_pickling():
    completed = CompletedInstance.from_events(SENT, "id", LaunchRecord(["a"], 1.0, ResultForm.TEXT), 2.0)
    again = pickle.loads(pickle.dumps(completed))
    assert again == completed
    assert (again.id, again.input, again.elapsed, again.value) == ("id", ["a"], 1.0, "[1, 2]")
