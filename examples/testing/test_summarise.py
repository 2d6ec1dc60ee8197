"""Tests of summarise.py, with pie-sync's fixtures: each test has its own server.

Run them with pytest. They need the extra "testing", and no Pie server.
"""

import math

import pytest
import summarise

from pie_sync import Event, PieTimeoutError

#: Runs a test on a server of each generation of Pie.
every_server = pytest.mark.parametrize(
    "pie_server",
    [{"protocol": protocol} for protocol in ("instance", "process", "process-0.5")],
    indirect=True,
    ids=["pie-0.2", "pie-0.4", "pie-0.5"],
)


@pytest.fixture(autouse=True)
def address(pie_server, monkeypatch):
    """Let the application find the test's server."""
    monkeypatch.setenv("PIE_URI", pie_server.uri)


@pytest.fixture
def files(tmp_path):
    """Two files, by their names."""
    for name, text in {"tea.txt": "All about tea", "pie.txt": "All about pie"}.items():
        (tmp_path / name).write_text(text)
    return [str(tmp_path / "tea.txt"), str(tmp_path / "pie.txt")]


@every_server
def test_it_prints_what_the_program_returns(pie_server, files, capsys):
    pie_server.program("summarise@1.2.0")(
        lambda context: context.receive(timeout=10).upper()
    )
    assert summarise.main(files) == 0
    assert capsys.readouterr().out == "tea.txt: ALL ABOUT TEA\npie.txt: ALL ABOUT PIE\n"


def test_it_sends_the_text_and_how_long_a_summary_may_be(pie_server, files):
    pie_server.program("summarise@1.2.0")(lambda context: context.receive(timeout=10))
    summarise.main(["--words", "5", *files])
    tea, pie = pie_server.instances
    assert tea.args == pie.args == ("--words", "5")
    assert tea.received == ("All about tea",)
    assert pie.received == ("All about pie",)


def test_one_failure_does_not_keep_it_from_the_other_files(pie_server, files, capsys):
    @pie_server.program("summarise@1.2.0")
    def program(context):
        text = context.receive(timeout=10)
        if "tea" in text:
            raise MemoryError("too long")
        return text

    assert summarise.main(files) == 0
    assert capsys.readouterr().out == "tea.txt: (no summary)\npie.txt: All about pie\n"


def test_a_program_that_takes_too_long_is_terminated(pie_server, pie_client):
    pie_server.program("summarise@1.2.0")(
        lambda context: [context.receive() for _ in range(2)]
    )
    with pytest.raises(PieTimeoutError):
        summarise.summarise(pie_client, "All about tea", words=5, timeout=0.05)
    (instance,) = pie_server.instances
    assert instance.event is Event.Aborted


def test_a_server_that_takes_too_long(pie_server, files, capsys):
    pie_server.delay(math.inf)
    assert summarise.main(["--timeout", "0.1", *files]) == 1
    assert capsys.readouterr().err == "the server takes too long\n"


def test_a_connection_that_breaks(pie_server, files, capsys):
    pie_server.program("summarise@1.2.0")(lambda context: pie_server.drop_connections())
    assert summarise.main(files) == 1
    assert capsys.readouterr().err.startswith("no summaries: ")


def test_a_server_that_is_not_there(pie_server, files, capsys):
    pie_server.close()
    assert summarise.main(files) == 1
    assert capsys.readouterr().err.startswith("no summaries: ")


def test_a_server_without_the_program(files, capsys):
    assert summarise.main(files) == 1
    assert "summarise/1.2.0" in capsys.readouterr().err
