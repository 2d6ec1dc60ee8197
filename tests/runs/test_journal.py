"""Results in a file, and batches that go on behind them."""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from pie_sync import InstanceFailed, LaunchError, PieConnectionError
from pie_sync._runs.journal import Journal, JournalError
from pie_sync.batch import run_batch
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
        ("square", {"timeout": 5}, "has results of timeout None, and this batch has timeout 5"),
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
    with pytest.raises(
        ValueError, match="line 4 is not the result of the input there: the inputs have ended after 3"
    ):
        list(client.map("square", numbers(3), results=path))
    assert len(lines(path)) == 5


def test_an_error_shows_both_inputs_where_they_differ(client, server, path):
    server.program("echo")(lambda context: "")
    inputs = [{"prompt": f"{'x' * 500}{number}{'y' * 500}"} for number in range(2)]
    list(client.map("echo", inputs, results=path))
    with pytest.raises(ValueError, match="line 1 is not the result of the input there: it is of ") as raised:
        list(client.map("echo", reversed(inputs), results=path))
    shown = re.fullmatch(r".*it is of (.*), and the input is (.*)", raised.value.args[0])
    assert [text.strip(".xy") for text in shown.groups()] == ["0", "1"]
    assert all(len(text) < 100 for text in shown.groups())


@pytest.mark.parametrize("left", ["{", '{"input": ["0"], "event": "Comp', '{"input": '])
@pytest.mark.parametrize("before", [0, 3])
def test_a_line_that_was_cut_off(client, runs, path, left, before):
    list(client.map("square", numbers(before), results=path))
    with path.open("a") as file:
        file.write(left)
    assert messages(client.map("square", numbers(6), results=path)) == squares(6)
    assert [line["input"] for line in lines(path)] == [[str(number)] for number in range(6)]


@pytest.mark.parametrize(
    "left", ["\n", "\r\n", " \n\n", "\0" * 5000, '{"input": ["3"], "ev' + "\0" * 100, "\0\n\0"]
)
def test_nothing_behind_the_last_line(client, runs, path, left):
    """A power cut leaves zeros where the last lines were to be, an editor leaves blank lines."""
    list(client.map("square", numbers(3), results=path))
    with path.open("a") as file:
        file.write(left)
    assert messages(client.map("square", numbers(6), results=path)) == squares(6)
    assert [line["input"] for line in lines(path)] == [[str(number)] for number in range(6)]


@pytest.mark.parametrize("left", ["\nprecious", "\0\nprecious\n", "precious\n", "\n{}\n", "{}\n"])
def test_something_behind_the_last_line_stays(client, runs, path, left):
    list(client.map("square", numbers(3), results=path))
    with path.open("a") as file:
        file.write(left)
    content = path.read_bytes()
    with pytest.raises(JournalError, match="line 4 is not the result of the input there: it is no"):
        list(client.map("square", numbers(6), results=path))
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "content", ["precious", "precious\n", "{}\n", "[]\n", '{"input": ["0"], "event": "Completed"}\n']
)
@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_is_no_journal_is_not_touched(path, content, restart):
    path.write_text(content)
    if restart and content.startswith('{"input"'):
        journal = Journal(path, {"program": "square"}, restart=True)
        assert path.read_text() == content
        journal.end()
        journal.close()
        assert path.read_text() == ""
        return
    with pytest.raises(JournalError, match="line 1 is not the result of the input there"):
        Journal(path, {"program": "square"}, restart=restart)
    assert path.read_text() == content


def test_two_batches_do_not_write_one_file(client, runs, path):
    results = client.map("square", numbers(), results=path)  # has the file before the first result is taken
    with pytest.raises(ValueError, match="another batch is writing") as raised:
        client.map("square", numbers(), results=path)
    assert "if it is of this process, close() its results" in raised.value.hint
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


@pytest.mark.parametrize("with_client", [True, False])
def test_a_mistake_behind_the_lines_has_its_number_among_all_inputs(server, client, runs, path, with_client):
    def run(inputs):
        if with_client:
            return messages(client.map("square", inputs, results=path))
        with ThreadPoolExecutor(1) as executor:
            return messages(run_batch(server.uri, "square", inputs, executor=executor, shard_size=2, results=path))

    inputs = [["2"], ["3"], ["4"], ["5"], ["6"], "7"]
    assert run(inputs[:3]) == ["4", "9", "16"]
    with pytest.raises(TypeError, match=r"^inputs\[5\]: "):
        run(inputs)
    assert len(lines(path)) == 5


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


# --- what failures leave, and other options ---------------------------------------------------------------


@pytest.fixture
def moody(server):
    """The program ``moody``, which fails for ``"bad"``; and how often each input was run."""
    runs = Counter()

    @server.program("moody")
    def moody(context):
        runs[context.args[0]] += 1
        if context.args == ["bad"]:
            raise ValueError("no")
        return context.args[0]

    return runs


@pytest.mark.parametrize(
    "options", [{"on_error": "yield"}, {"on_error": "skip"}, {"on_error": "skip", "retries": 1}]
)
def test_a_batch_that_stopped_at_a_failure_goes_on_with_other_options(client, moody, path, options):
    inputs = [["a"], ["bad"], ["c"]]
    with pytest.raises(InstanceFailed):
        list(client.map("moody", inputs, results=path))
    expected = ["a", InstanceFailed, "c"] if options["on_error"] == "yield" else ["a", "c"]
    for _ in range(2):
        assert messages(client.map("moody", inputs, results=path, **options)) == expected
    assert moody["a"] == 1
    assert moody["bad"] == 2 + options.get("retries", 0)
    named = [line.get("batch") for line in lines(path)]
    assert named == [
        {"program": "moody", "retries": 0, "on_error": "raise"},
        {"program": "moody", "retries": 0, **options},
        None,
    ]
    # The failure is of these options, whatever the first line says.
    with pytest.raises(JournalError, match="line 2 is a failure with .*, and this batch has "):
        list(client.map("moody", inputs, results=path))


def test_what_is_skipped_can_be_yielded(client, moody, path):
    inputs = [["a"], ["bad"], ["c"]]
    assert messages(client.map("moody", inputs[:2], results=path, on_error="skip")) == ["a"]
    assert messages(client.map("moody", inputs, results=path, on_error="yield")) == ["a", InstanceFailed, "c"]
    assert messages(client.map("moody", inputs, results=path, on_error="skip")) == ["a", "c"]
    assert moody == {"a": 1, "bad": 1, "c": 1}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_error": "raise"}, "on_error 'yield', and this batch has on_error 'raise'"),
        ({"on_error": "yield", "retries": 3}, "retries 0, and this batch has retries 3"),
    ],
)
def test_failures_are_not_those_of_other_options(client, moody, path, options, text):
    inputs = [["a"], ["bad"], ["c"]]
    list(client.map("moody", inputs, results=path, on_error="yield"))
    content = path.read_bytes()
    with pytest.raises(JournalError, match=f"line 2 is a failure with {text}") as raised:
        list(client.map("moody", inputs, results=path, **options))
    assert raised.value.hint == "restart=True begins anew, or name another file"
    assert path.read_bytes() == content
    assert moody == {"a": 1, "bad": 1, "c": 1}


# --- restart ----------------------------------------------------------------------------------------------


def test_restart(client, runs, path):
    list(client.map("other", numbers(5), results=path))
    path.chmod(0o640)
    assert messages(client.map("square", numbers(3), results=path, restart=True)) == squares(3)
    assert [line["message"] for line in lines(path)] == squares(3)
    assert lines(path)[0]["batch"]["program"] == "square"
    assert os.listdir(path.parent) == [path.name]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o640


def test_restart_keeps_the_old_lines_until_there_is_a_new_one(client, runs, path):
    list(client.map("other", numbers(5), results=path))
    content = path.read_bytes()
    client.map("square", numbers(3), results=path, restart=True).close()
    with pytest.raises(LaunchError):
        list(client.map("nobody/knows", numbers(3), results=path, restart=True))
    with pytest.raises(TypeError):
        list(client.map("square", ["3"], results=path, restart=True))
    assert path.read_bytes() == content
    results = client.map("square", numbers(3), results=path, restart=True)
    next(results)
    results.close()
    assert len(lines(path)) == 1
    assert messages(client.map("square", numbers(3), results=path)) == squares(3)


def test_restart_without_inputs(client, runs, path):
    list(client.map("other", numbers(5), results=path))
    assert list(client.map("square", [], results=path, restart=True)) == []
    assert path.read_bytes() == b""


def test_a_restarted_batch_keeps_others_away(client, runs, path):
    list(client.map("other", numbers(5), results=path))
    results = client.map("square", numbers(), results=path, restart=True)
    for _ in range(2):
        with pytest.raises(JournalError, match="another batch is writing"):
            client.map("square", numbers(), results=path, restart=True)
        next(results)
    results.close()


def test_a_cluster_s_batch_begins_anew(server, client, runs, path):
    list(client.map("other", numbers(5), results=path))
    options = {"executor": ThreadPoolExecutor, "username": "alice", "results": path}
    with pytest.raises(JournalError, match="program 'other', and this batch has program 'square'"):
        run_batch(server.uri, "square", numbers(3), **options)
    assert messages(run_batch(server.uri, "square", numbers(3), restart=True, **options)) == squares(3)
    assert [line["message"] for line in lines(path)] == squares(3)


# --- files that are none ----------------------------------------------------------------------------------

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@needs_fifo
@pytest.mark.parametrize("restart", [False, True])
def test_a_named_pipe_gets_each_line_at_once(client, runs, tmp_path, restart):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read = subprocess.Popen(
        [sys.executable, "-c", "import sys\nfor line in open(sys.argv[1]): print(line, end='', flush=True)", fifo],
        stdout=subprocess.PIPE,
        text=True,
    )
    with read:
        results = client.map("square", numbers(3), results=fifo, restart=restart)
        for number in range(3):
            assert next(results).message == str(number**2)
            assert json.loads(read.stdout.readline())["message"] == str(number**2)
        assert list(results) == []
        assert read.stdout.read() == ""


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="this system has no /dev/fd")
def test_the_descriptor_of_a_pipe(client, runs):
    reading, writing = os.pipe()
    with open(reading) as reader:
        with open(writing, "w"):
            assert messages(client.map("square", numbers(3), results=f"/dev/fd/{writing}")) == squares(3)
        assert [json.loads(line)["message"] for line in reader] == squares(3)


@pytest.mark.skipif(not os.path.exists("/dev/null"), reason="needs /dev/null")
def test_a_device_is_for_several_batches(client, runs):
    results = client.map("square", numbers(3), results="/dev/null")
    assert messages(client.map("other", numbers(1), results="/dev/null")) == ["other"]
    assert messages(results) == squares(3)


@needs_fifo
def test_a_pipe_without_a_reader_any_more(client, runs, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: open(fifo, "rb").close())
    reader.start()
    results = client.map("square", numbers(3), results=fifo)
    reader.join()
    with pytest.raises(BrokenPipeError, match="fifo"):
        list(results)


def test_the_home_directory(client, runs, tmp_path, monkeypatch):
    monkeypatch.setenv("USERPROFILE" if os.name == "nt" else "HOME", str(tmp_path))
    list(client.map("square", numbers(3), results="~/out.jsonl"))
    assert len(lines(tmp_path / "out.jsonl")) == 3
