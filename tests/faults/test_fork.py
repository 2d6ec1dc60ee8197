"""fork(): the child can't use a client of its parent's, and does it no harm; it can make its own."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import ssl
import threading
import traceback
import warnings
from contextlib import contextmanager

import pytest
import trustme

from pie_sync import Event, PieClient, PieConnectionError
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.spill_file import SpillSpace
from pie_sync.testing import LocalServer
from tests.faults.proxy import UP, proxy_to
from tests.faults.threads import wait_until_it_waits
from tests.programs import add_programs

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
    # Python 3.12 warns of fork() in a process that has threads; here that is what it's about.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

CHUNK = 256 * 1024


def in_a_child(function) -> None:
    """Run a function in a forked child, and fail if it fails, or takes longer than 20 seconds."""
    process_id = os.fork()
    if process_id == 0:
        code = 1
        try:
            signal.alarm(20)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]) == 0


@contextmanager
def refused():
    with pytest.raises(PieConnectionError, match="make a new PieClient in the child"):
        yield


def test_whatever_the_child_calls_is_refused(client):
    instance = client.launch_instance_from_registry("echo")
    calls = {
        "ping": client.ping,
        "query": lambda: client.query("a", "b"),
        "list_instances": client.list_instances,
        "program_exists": lambda: client.program_exists("ab" * 32),
        "upload_program": lambda: client.upload_program(b"\0asm"),
        "launch_instance": lambda: client.launch_instance("ab" * 32),
        "launch_from_registry": lambda: client.launch_instance_from_registry("echo"),
        "attach_instance": lambda: client.attach_instance(instance.id),
        "terminate_instance": lambda: client.terminate_instance(instance.id),
        "recv": instance.recv,
        "iteration": lambda: next(iter(instance)),
        "send": lambda: instance.send("x"),
        "upload_blob": lambda: instance.upload_blob(b"x"),
        "terminate": instance.terminate,
    }

    def child() -> None:
        for name, call in calls.items():
            print(name, flush=True)  # shown if it fails
            with refused():
                call()

    in_a_child(child)
    instance.send("the parent goes on")
    assert instance.recv(10) == (Event.Message, "the parent goes on")


def test_waiting_is_refused_in_the_child(client):
    instance = client.launch_instance_from_registry("echo")

    def child() -> None:
        with refused():
            instance.wait(1)

    in_a_child(child)


def test_connecting_and_authenticating_is_refused_in_the_child(client):
    def child() -> None:
        for call in (
            client.connect,
            lambda: client.authenticate("alice"),
            lambda: client.authenticate("bob"),
            lambda: client.internal_authenticate("x"),
        ):
            with refused():
                call()

    in_a_child(child)


def test_no_byte_leaves_the_child(server):
    """Not from its calls, nor when it closes the client, or collects it as garbage, or ends."""
    with proxy_to(server.uri, record=True) as proxy:
        client = PieClient(proxy.uri)
        client.connect()
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("echo")
        instance.send("before")
        assert instance.recv(10) == (Event.Message, "before")
        sent = len(proxy.forwarded[UP])

        def close() -> None:
            client.close()
            client.close()

        def collect() -> None:
            nonlocal client, instance
            del client, instance
            gc.collect()

        def call() -> None:
            for method in (client.ping, instance.recv, lambda: instance.send("x")):
                with refused():
                    method()

        for child in (close, collect, call, lambda: None):
            in_a_child(child)
        assert len(proxy.forwarded[UP]) == sent
        instance.send("after")
        assert instance.recv(10) == (Event.Message, "after")
        client.close()


@pytest.mark.parametrize("fork", ["os.fork", "fork() of the C library"])
def test_a_client_in_another_thread_s_variable_survives(server, fork):
    """Its finalizer runs in the child before anything else does, and ``fork()`` from C runs no hooks at all."""
    local, made, forked, failed = threading.local(), threading.Event(), threading.Event(), []

    def use() -> None:
        local.client = PieClient(server.uri)
        local.client.connect()
        local.client.authenticate("alice")
        made.set()
        forked.wait(20)
        try:
            local.client.ping()
        except PieConnectionError as error:
            failed.append(error)
        local.client.close()

    thread = threading.Thread(target=use)
    thread.start()
    with PieClient(server.uri) as mine:
        mine.authenticate("alice")
        assert made.wait(20)
        process_id = os.fork() if fork == "os.fork" else ctypes.PyDLL(None).fork()
        if process_id == 0:
            try:
                mine.close()
            finally:
                os._exit(0)
        os.waitpid(process_id, 0)
        mine.ping()
        forked.set()
        thread.join(20)
    assert failed == []


def test_while_the_parent_uploads(server):
    """The child is forked in the middle of a frame, with the locks of the parent's threads taken."""
    with proxy_to(server.uri) as proxy, PieClient(proxy.uri) as client:
        client.authenticate("alice")
        instance = client.launch_instance_from_registry("blob-echo")
        blob = os.urandom(16 * CHUNK)
        hold, let_go = threading.Event(), threading.Event()

        def delay() -> float:
            hold.set()
            assert let_go.wait(20)
            return 0

        proxy.delay = delay
        upload = threading.Thread(target=instance.upload_blob, args=(blob,))
        upload.start()
        assert hold.wait(10)
        wait_until_it_waits(upload, "send_all")

        def child() -> None:
            with refused():
                client.ping()
            with refused():
                instance.terminate()
            with refused():
                instance.upload_blob(b"x")
            client.close()
            with PieClient(server.uri) as own:
                own.authenticate("bob")
                assert own.ping() > 0

        for _ in range(3):
            in_a_child(child)
        let_go.set()
        assert instance.recv(30) == (Event.Blob, blob)
        upload.join(10)
        assert not upload.is_alive()


def test_both_upload_a_large_blob(server, client):
    """What hashed the parent's (threads, perhaps) must not be missing in the child."""
    blob = os.urandom(64 * CHUNK)

    def upload_with(client: PieClient) -> None:
        instance = client.launch_instance_from_registry("blob-echo")
        instance.upload_blob(blob)
        assert instance.recv(10) == (Event.Blob, blob)

    def child() -> None:
        with PieClient(server.uri) as own:
            own.authenticate("bob")
            upload_with(own)

    upload_with(client)
    in_a_child(child)


def work(uri: str, number: int, results) -> None:
    with PieClient(uri, connect_timeout=30, timeout=30) as client:
        client.authenticate(f"worker-{number}")
        instance = client.launch_instance_from_registry("echo")
        for turn in range(20):
            instance.send(f"{number}.{turn}")
            assert instance.recv(30) == (Event.Message, f"{number}.{turn}")
    results.put(number)


def test_multiprocessing_workers(server, client):
    """Forked workers with clients of their own, while the parent uses its client."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    instance = client.launch_instance_from_registry("echo")
    workers = [context.Process(target=work, args=(server.uri, number, results)) for number in range(4)]
    for worker in workers:
        worker.start()
    for turn in range(200):
        instance.send(str(turn))
        assert instance.recv(30) == (Event.Message, str(turn))
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert sorted(results.get() for _ in workers) == [0, 1, 2, 3]


def use_the_parents(client: PieClient, results) -> None:
    try:
        client.ping()
    except PieConnectionError as error:
        results.put(str(error))


def test_multiprocessing_with_the_parent_s_client(client):
    """With fork nothing is pickled, so the client gets there, and says what's wrong."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    worker = context.Process(target=use_the_parents, args=(client, results))
    worker.start()
    worker.join(30)
    assert worker.exitcode == 0
    assert "make a new PieClient in the child" in results.get()
    assert client.ping() > 0


def test_collecting_what_is_on_disk_waits_for_nobody():
    """Another thread may have used the same temporary file when the child was forked: it is not in the child."""
    space = SpillSpace()
    kept, busy = EventQueue(), EventQueue()
    kept.put_batch([(Event.Message, "kept")])
    kept.spill(space)
    over = threading.Event()

    def use() -> None:
        while not over.is_set():
            busy.put_batch([(Event.Message, 100_000 * "x")] * 10)
            busy.spill(space)
            for _ in range(10):
                busy.get(block=False)

    def child() -> None:
        nonlocal kept
        del kept
        gc.collect()

    thread = threading.Thread(target=use)
    thread.start()
    try:
        for _ in range(50):
            in_a_child(child)
    finally:
        over.set()
        thread.join(20)
    assert kept.get(block=False) == (Event.Message, "kept"), "the parent has it still"


def test_over_tls():
    """To collect a copy of a TLS connection must not say good-bye on it."""
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with LocalServer(ssl_context=server_context) as server, PieClient(server.uri, ssl_context=context) as client:
        add_programs(server)
        client.authenticate("alice")

        def child() -> None:
            with refused():
                client.ping()
            client.close()
            gc.collect()

        for _ in range(3):
            in_a_child(child)
        assert client.ping() > 0
