"""How results show themselves in a prompt, in a log and in a notebook."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from pie_sync import Blob, ClientStats, CompletedInstance, Event, InstanceInfo, PieClient
from pie_sync._texts.display import beginning, html_table, shown, shown_fields
from pie_sync.testing import LocalServer


def cells(html: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in ElementTree.fromstring(html).iter("tr")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("short", "'short'"),
        ("x" * 1000, repr("x" * 80) + "... (1,000 characters)"),
        (b"y" * 1000, repr(b"y" * 80) + "... (1,000 bytes)"),
        ((), "()"),
        (("a",), "('a',)"),
        (["a"], "['a']"),
        (tuple("abcde"), "('a', 'b', 'c', ... (5 in all))"),
        ({"a": 1}, "{'a': 1}"),
        (dict.fromkeys(range(1000), 0), "{0: 0, 1: 0, 2: 0, ... (1,000 in all)}"),
        (None, "None"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert shown(value) == text


def test_fields_without_a_value_are_left_out() -> None:
    assert shown_fields("Name", {"a": 1, "b": None, "c": "", "d": (), "e": 0}) == "Name(a=1, e=0)"


def test_text_of_others_is_no_markup() -> None:
    html = html_table([["<script>", 1]], ["<b>", "number"])
    assert "<script>" not in html
    assert cells(html) == [["<b>", "number"], ["<script>", "1"]]


def test_a_notebook_gets_a_page_of_a_text() -> None:
    assert beginning("short") == "short"
    assert beginning("x" * 1_000_000) == "x" * 10_000 + "... (1,000,000 characters)"


def test_a_result() -> None:
    result = CompletedInstance(Event.Completed, "done", stdout="x" * 1000, blobs=(Blob(b"1"), b"2"))
    assert (
        repr(result)
        == "<CompletedInstance Completed, message='done', stdout: 1000 characters, 2 blobs of 2 bytes>"
    )
    assert cells(result._repr_html_()) == [
        ["event", "Completed"],
        ["message", "done"],
        ["stdout", "x" * 1000],
        ["blobs", "(b'1', b'2')"],
    ]


def test_the_list_of_instances(server: LocalServer, client: PieClient) -> None:
    assert repr(client.list_instances()) == "[]"
    first, second = (client.launch_instance_from_registry("echo", ["a", "<b>"]) for _ in range(2))
    instances = client.list_instances()
    assert isinstance(instances, list)
    lines = repr(instances).splitlines()
    assert [line.strip(" [],") for line in lines] == [repr(info) for info in instances]
    assert {info.id for info in instances} == {first.id, second.id}
    assert (
        repr(InstanceInfo("x", ("a",), "Attached")) == "InstanceInfo(id='x', arguments=('a',), status='Attached')"
    )
    head, *rows = cells(instances._repr_html_())
    assert head == ["id", "arguments", "status", "username", "elapsed_secs", "kv_pages_used"]
    assert [row[:4] for row in rows] == [[info.id, "a <b>", "Attached", "alice"] for info in instances]


def test_counters() -> None:
    stats = ClientStats(messages_sent=2, events_queued={str(number): 1 for number in range(1000)})
    assert repr(stats).startswith("ClientStats(messages_sent=2, messages_received=0, ")
    assert "(1,000 in all)" in repr(stats)
    assert len(repr(stats)) < 300
    assert ["messages_sent", "2"] in cells(stats._repr_html_())


def test_a_server() -> None:
    server = LocalServer()
    assert repr(server) == "<LocalServer not started, 0 instances so far>"
    with server:
        assert repr(server) == f"<LocalServer {server.uri}, 0 instances so far>"
    assert repr(server) == "<LocalServer closed>"
