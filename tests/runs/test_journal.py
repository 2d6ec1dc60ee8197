"""Results in a file, and batches that go on behind them."""

import itertools
import json
import os
from collections import Counter

import pytest

from pie_sync import InstanceFailed, PieConnectionError
from pie_sync._runs.journal import Journal, JournalError
from tests.programs import HELLO


@pytest.fixture
def runs(server):
    """How often each input of the program ``square`` was run."""
    runs = Counter()

    @server.program("square")
    def square(context):
        runs[context.args[0]] += 1
        return str(int(context.args[0]) ** 2)

    @server.program("other")
    def other(context):
        return "other"

    return runs


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


def numbers(*range_):
    return ([str(number)] for number in (range(*range_) if range_ else itertools.count()))


def messages(results):
    return [result.message if not isinstance(result, Exception) else type(result) for result in results]


def squares(count):
    return [str(number**2) for number in range(count)]


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_for_each_input_in_order(client, runs, path):
    assert messages(client.map("square", numbers(50), results=path)) == squares(50)
    assert [(line["input"], line["message"]) for line in lines(path)] == [
        ([str(number)], str(number**2)) for number in range(50)
    ]
    assert lines(path)[0]["batch"] == {"program": "square", "retries": 0, "on_error": "raise"}
    assert "batch" not in lines(path)[1]


def test_a_batch_goes_on_behind_its_lines(client, runs, path):
    results = client.map("square", numbers(), results=path, concurrency=2)
    assert messages(itertools.islice(results, 20)) == squares(20)
    assert len(lines(path)) == 20
    results.close()
    assert messages(client.map("square", numbers(40), results=path)) == squares(40)
    assert len(lines(path)) == 40
    assert all(runs[str(number)] == 1 for number in range(20))
    before = +runs
    assert messages(client.map("square", numbers(40), results=path)) == squares(40)
    assert runs == before


def test_a_lost_connection_and_another_client(server, client, runs, path):
    results = client.map("square", numbers(), results=path)
    assert messages(itertools.islice(results, 10)) == squares(10)
    server.drop_connections()
    with pytest.raises(PieConnectionError):
        list(results)
    client.connect()
    client.authenticate("alice")
    assert messages(client.map("square", numbers(200), results=path)) == squares(200)
    assert len(lines(path)) == 200


def test_what_was_raised_is_run_again(client, server, path):
    good = []

    @server.program("picky")
    def picky(context):
        if context.args == ["3"] and not good:
            raise ValueError("not yet")
        return context.args[0]

    with pytest.raises(InstanceFailed):
        list(client.map("picky", numbers(6), results=path))
    assert len(lines(path)) == 3
    good.append(True)
    assert messages(client.map("picky", numbers(6), results=path)) == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.parametrize("on_error", ["yield", "skip"])
def test_failures_are_kept(client, runs, path, on_error):
    inputs = [["1"], ["two"], ["3"]]
    expected = ["1", InstanceFailed, "9"] if on_error == "yield" else ["1", "9"]
    for _ in range(2):
        results = client.map("square", inputs, results=path, on_error=on_error)
        assert messages(results) == expected
        assert results.skipped == 3 - len(expected)
    assert runs["two"] == 1
    assert [line["event"] for line in lines(path)] == ["Completed", "Exception", "Completed"]


@pytest.mark.parametrize(
    ("program", "options", "text"),
    [
        ("other", {}, "has results of program 'square', and this batch has program 'other'"),
        ("nobody/knows", {}, "program 'square', and this batch has program 'nobody/knows'"),
        ("square", {"retries": 2}, "has results of retries 0, and this batch has retries 2"),
        ("square", {"on_error": "skip"}, "on_error 'raise', and this batch has on_error 'skip'"),
    ],
)
def test_another_program_or_option_is_an_error_that_names_both(client, runs, path, program, options, text):
    list(client.map("square", numbers(5), results=path))
    content = path.read_bytes()
    with pytest.raises(ValueError, match=text):
        client.map(program, numbers(5), results=path, **options)
    assert path.read_bytes() == content


def test_a_program_in_a_file_is_known_by_its_hash(client, tmp_path, path):
    first, second = tmp_path / "one.wasm", tmp_path / "two.wasm"
    first.write_bytes(HELLO)
    second.write_bytes(HELLO + b"\0\x02\x01x")
    list(client.map(first, [["a"]], results=path))
    renamed = first.rename(tmp_path / "renamed.wasm")
    assert len(list(client.map(renamed, [["a"], ["b"]], results=path))) == 2
    with pytest.raises(ValueError, match="has results of program '[0-9a-f]{64}', and this batch has program"):
        client.map(second, [["a"], ["b"]], results=path)


def test_other_inputs(client, runs, path):
    list(client.map("square", numbers(5), results=path))
    results = client.map("square", [["0"], ["7"]], results=path)
    assert next(results).message == "0"
    with pytest.raises(ValueError, match="line 2 is not the result of the input there"):
        next(results)
    assert len(lines(path)) == 5


def test_fewer_inputs(client, runs, path):
    list(client.map("square", numbers(5), results=path))
    with pytest.raises(ValueError, match="line 4 is not the result"):
        list(client.map("square", numbers(3), results=path))


@pytest.mark.parametrize("left", ["{", '{"input": ["0"], "event": "Comp', '{"input": '])
@pytest.mark.parametrize("before", [0, 3])
def test_a_line_that_was_cut_off(client, runs, path, left, before):
    list(client.map("square", numbers(before), results=path))
    with path.open("a") as file:
        file.write(left)
    assert messages(client.map("square", numbers(6), results=path)) == squares(6)
    assert [line["input"] for line in lines(path)] == [[str(number)] for number in range(6)]


@pytest.mark.parametrize(
    "content", ["precious", "precious\n", "{}\n", "[]\n", '{"input": ["0"], "event": "Completed"}\n']
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_is_no_journal_is_not_touched(path, content, restart):
    path.write_text(content)
    if restart and content.startswith('{"input"'):
        Journal(path, {"program": "square"}, restart=True).close()
        assert path.read_text() == ""
        return
    with pytest.raises(JournalError, match="line 1 is not the result of the input there"):
        Journal(path, {"program": "square"}, restart=restart)
    assert path.read_text() == content


def test_two_batches_do_not_write_one_file(client, runs, path):
    results = client.map("square", numbers(), results=path)
    next(results)
    with pytest.raises(ValueError, match="another batch is writing"):
        client.map("square", numbers(), results=path)
    results.close()
    assert messages(itertools.islice(client.map("square", numbers(), results=path), 2)) == squares(2)


def test_inputs_of_every_kind(client, server, path):
    @server.program("echo")
    def echo(context):
        return " ".join(context.args)

    inputs = [["a"], ("b", "c"), iter(["d"]), {"max_tokens": 5}]
    assert messages(client.map("echo", inputs, results=path)) == ["a", "b c", "d", "--max-tokens 5"]
    assert [line["input"] for line in lines(path)] == [["a"], ["b", "c"], ["d"], {"max_tokens": 5}]


def test_an_input_that_makes_no_sense(client, runs, path):
    results = client.map("square", [["2"], "3"], results=path)
    assert next(results).message == "4"
    with pytest.raises(TypeError, match="did you mean"):
        next(results)
    assert len(lines(path)) == 1


def test_not_out_of_order(client, runs, path):
    with pytest.raises(ValueError, match="ordered=False"):
        client.map("square", numbers(3), results=path, ordered=False)
    assert not path.exists()


def test_progress_counts_what_is_there(client, runs, path):
    list(client.map("square", numbers(30), results=path))
    told = []
    list(client.map("square", list(numbers(40)), results=path, progress=told.append))
    assert (told[-1].done, told[-1].total) == (40, 40)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(client, runs):
    with pytest.raises(OSError, match="/dev/full"):
        list(client.map("square", numbers(3), results="/dev/full"))


def test_another_time_limit(client, runs, path):
    list(client.map("square", numbers(3), results=path, timeout=60))
    with pytest.raises(ValueError, match="has results of timeout 60, and this batch has timeout None"):
        client.map("square", numbers(3), results=path)
    assert messages(client.map("square", numbers(3), results=path, timeout=60)) == squares(3)
