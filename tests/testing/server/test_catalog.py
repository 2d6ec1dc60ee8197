"""The names of programs of the registry, and which program a name means."""

from __future__ import annotations

import pytest

from pie_sync.testing import LocalServer
from pie_sync.testing._programs.python_program import PythonProgram
from pie_sync.testing._server.catalog import Catalog, ProgramName
from tests.testing.raw import COMPLETED, RawClient


@pytest.mark.parametrize(
    ("registered", "asked"),
    [
        ("tool", "tool"),
        ("tool", "std/tool"),
        ("tool", "tool@latest"),
        ("std/tool@latest", "tool"),
        ("mine/tool@1.2.0", "mine/tool@1.2.0"),
        ("mine/tool@1.2.0", "mine/tool"),
        ("tool@0.1.0", "std/tool@0.1.0"),
    ],
)
def test_names_that_find_a_program(server: LocalServer, client: RawClient, registered: str, asked: str) -> None:
    server.program(registered)(lambda ctx: "found")
    assert list(client.events(client.launch(asked))) == [(COMPLETED, "found")]


@pytest.mark.parametrize(
    "asked", ["other", "mine/tool", "tool@2.0.0", "", "a/b/c", "tool@1@2", "tool@", "/tool", "tool#hash"]
)
def test_names_that_find_nothing(server: LocalServer, client: RawClient, asked: str) -> None:
    server.program("tool@1.0.0")(lambda ctx: "found")
    answer = client.request("launch_instance_from_registry", inferlet=asked, arguments=[], detached=False)
    assert answer["type"] == "instance_launch_result"
    assert not answer["successful"]
    assert answer["message"].startswith("Failed to download inferlet from registry: ")


def test_a_program_that_is_registered_again_replaces_the_first_unless_told_otherwise() -> None:
    catalog = Catalog()
    name = ProgramName.parse("tool")
    first, second, third = (PythonProgram(lambda ctx: None) for _ in range(3))
    catalog.register(name, first)
    catalog.register(name, second)
    catalog.register(name, third, replace=False)
    assert catalog.registered(name) is second
    assert catalog.versions("std", "tool") == ["latest"]


def test_latest_is_the_one_of_that_name_or_the_last_registered(server: LocalServer, client: RawClient) -> None:
    for version in ("2", "1"):
        server.program(f"tool@{version}")(lambda ctx, version=version: version)
    assert list(client.events(client.launch("tool"))) == [(COMPLETED, "1")]
    server.program("tool")(lambda ctx: "latest")
    server.program("tool@3")(lambda ctx: "3")
    assert list(client.events(client.launch("tool"))) == [(COMPLETED, "latest")]
