"""The programs that the batches run, and the check that no process is left behind."""

from __future__ import annotations

import multiprocessing

import pytest

from pie_sync.testing import LocalServer


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture(autouse=True)
def programs(server):
    @server.program("square")
    def square(context):
        return str(int(context.args[0]) ** 2)

    @server.program("reciprocal")
    def reciprocal(context):
        return str(1 / int(context.args[0]))


@pytest.fixture
def strict_server(key_file):
    with LocalServer(users={"alice": key_file.with_suffix(".pub").read_text()}) as server:

        @server.program("who")
        def who(context):
            return context.username

        yield server
