"""on_error: raise, yield or skip; and the generator that the caller has."""

import logging

import pytest

from pie_sync import InstanceFailed
from pie_sync._runs.results import Results, check_on_error

INPUTS = [["1"], ["two"], ["3"]]


@pytest.fixture(autouse=True)
def square(server):
    @server.program("square")
    def square(context):
        return str(int(context.args[0]) ** 2)


def shown(results):
    return [result.message if not isinstance(result, Exception) else type(result) for result in results]


def test_raise(client):
    results = client.map("square", INPUTS, on_error="raise")
    assert next(results).message == "1"
    with pytest.raises(InstanceFailed):
        next(results)
    assert list(results) == []


def test_yield(client):
    assert shown(client.map("square", INPUTS, on_error="yield")) == ["1", InstanceFailed, "9"]
    assert shown(client.map("square", INPUTS, on_error="yield", return_exceptions=True)) == [
        "1",
        InstanceFailed,
        "9",
    ]


def test_skip_with_a_count(client, caplog):
    with caplog.at_level(logging.INFO, "pie_sync.protocol"):
        results = client.map("square", INPUTS, on_error="skip")
        assert results.skipped == 0
        assert shown(results) == ["1", "9"]
    assert results.skipped == 1
    told = [record.getMessage() for record in caplog.records if record.name == "pie_sync.protocol"]
    assert told == ["1 inputs have failed and were skipped"]


@pytest.mark.parametrize("options", [{"on_error": "ignore"}, {"on_error": "skip", "return_exceptions": True}])
def test_mistakes(client, options):
    with pytest.raises(ValueError, match="on_error"):
        client.map("square", INPUTS, **options)


def test_the_older_name():
    assert check_on_error(None, False) == "raise"
    assert check_on_error(None, True) == "yield"


@pytest.mark.parametrize("end", ["exhausted", "close", "throw", "raises"])
def test_on_end_is_called_once(end):
    def outcomes():
        yield 1
        if end == "raises":
            raise LookupError("inside")

    ends = []
    results = Results(outcomes(), "raise", lambda: ends.append(end))
    assert next(results) == 1
    assert ends == []
    if end == "exhausted":
        assert list(results) == []
    elif end == "close":
        results.close()
    else:
        with pytest.raises(LookupError):
            next(results) if end == "raises" else results.throw(LookupError("given"))
    results.close()
    assert ends == [end]
