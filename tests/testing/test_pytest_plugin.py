"""The fixtures and the marker, in runs of pytest as a user makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer

ROOT = Path(__file__).parents[2]

pytest_plugins = ["pytester"]

#: What must not be loaded for tests that don't ask for it.
HEAVY = ["paramiko", "cryptography", "numpy", "wasmtime", "websockets", "asyncio"]


def run(pytester: pytest.Pytester, *options: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-W", "error", "--strict-markers", *options)


def test_the_fixtures_and_the_marker(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import threading

        import pytest

        seen = []

        def test_a_client_of_the_server(pie_server, pie_client):
            pie_server.program("whoami")(lambda context: context.username)
            assert pie_client.run("whoami").message == "tester"
            assert pie_client.protocol == "instance"
            seen.append((pie_server, pie_client))

        def test_each_test_has_its_own(pie_server, pie_client):
            (old_server, old_client), = seen
            assert old_client.closed
            with pytest.raises(RuntimeError, match="closed"):
                old_server.start()
            assert pie_server is not old_server
            assert pie_server.instances == []

        @pytest.mark.pie_server(protocol="process")
        class TestMarkedClass:
            def test_the_class_counts(self, pie_client):
                assert pie_client.protocol == "process"

            @pytest.mark.pie_server(variant="name")
            def test_the_nearest_marker_counts(self, pie_client):
                assert pie_client.protocol == "instance"

            @pytest.mark.parametrize("pie_server", [{}, {"early_events": True}], indirect=True)
            def test_parameters_are_added(self, pie_server, pie_client):
                assert pie_client.protocol == "process"

        @pytest.mark.pie_server(protocol="process-0.5")
        def test_the_gateway(pie_client):
            assert pie_client.protocol == "process"

        @pytest.mark.pie_server(users={"alice": []})
        def test_users_without_the_client(pie_server):
            assert pie_server.uri

        def test_a_client_that_was_closed_already(pie_client):
            pie_client.close()

        def test_a_server_that_was_closed_already(pie_server, pie_client):
            pie_server.close()

        def test_no_thread_is_left():
            assert threading.active_count() == 1
        """
    )
    # pytest-timeout would have a thread of its own.
    result = run(pytester, "-p", "no:timeout")
    result.assert_outcomes(passed=11)
    assert result.stderr.lines == []


def test_mistakes_are_reported_with_a_hint(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import ssl

        import pytest

        @pytest.mark.pie_server(protocl="process")
        def test_unknown_option(pie_server): ...

        @pytest.mark.pie_server(protocol="grpc")
        def test_impossible_value(pie_server): ...

        @pytest.mark.pie_server("process")
        def test_positional(pie_server): ...

        @pytest.mark.parametrize("pie_server", ["process"], indirect=True)
        def test_no_dict(pie_server): ...

        @pytest.mark.pie_server(users={"alice": []})
        def test_users(pie_client): ...

        @pytest.mark.pie_server(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        def test_tls(pie_client): ...
        """
    )
    result = run(pytester)
    result.assert_outcomes(errors=6)
    result.stdout.fnmatch_lines(
        [
            "pie_server: LocalServer has no option protocl; it has users, *protocol, *",
            "pie_server: protocol must be one of 0.2, 0.2-names, *, process-0.5, not 'grpc'",
            "@pytest.mark.pie_server takes options by their names (protocol=...), not ('process',)",
            "pie_server: a parameter must be a dict of options of LocalServer, not 'process'",
            "pie_client: the server doesn't let 'tester' in (*); make a PieClient(pie_server.uri, ...) *",
            "pie_client: it doesn't know which certificate to trust; make a PieClient(pie_server.uri, ...) *",
        ]
    )
    result.stdout.no_fnmatch_line("*During handling*")
    result.stdout.no_fnmatch_line("*pytest_plugin.py:*")


def test_fixtures_of_the_users_own(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        from pie_sync.testing import LocalServer

        @pytest.fixture(scope="session")
        def pie_server():
            with LocalServer(protocol="process") as server:
                server.program("hello")(lambda context: "hello")
                yield server
        """
    )
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", [1, 2])
        def test_it(pie_client, pie_server, number):
            assert pie_client.run("hello@0.1.0").message == "hello"
            assert len(pie_server.instances) == number
        """
    )
    run(pytester).assert_outcomes(passed=2)


def test_a_run_that_does_not_use_it_loads_nothing_heavy(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        f"""
        import sys

        def test_it(request):
            assert request.config.pluginmanager.has_plugin("pie_sync")
            assert [name for name in {HEAVY} if name in sys.modules] == []
        """
    )
    run(pytester).assert_outcomes(passed=1)


def test_without_the_extra_it_says_what_to_install(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("import sys\nsys.modules['websockets'] = None")
    pytester.makepyfile("def test_it(pie_client): ...\n\ndef test_another(): ...")
    result = run(pytester)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(
        ["pie_server needs websockets, which is not installed: pip install 'pie-sync[[]testing]'"]
    )


def test_it_can_be_left_out_and_asked_for_by_name(pytester: pytest.Pytester, monkeypatch) -> None:
    pytester.makepyfile("def test_it(pie_server): ...")
    run(pytester, "-p", "no:pie_sync").assert_outcomes(errors=1)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    run(pytester, "-p", "pie_sync.testing.pytest_plugin").assert_outcomes(passed=1)


def test_the_marker_and_the_fixtures_are_listed(pytester: pytest.Pytester) -> None:
    run(pytester, "--markers").stdout.fnmatch_lines(["@pytest.mark.pie_server(?*options): the options of *"])
    run(pytester, "--fixtures").stdout.fnmatch_lines(["pie_server -- *", "pie_client -- *"])


def test_pie_sync_may_have_been_imported_before(pytester: pytest.Pytester) -> None:
    path = pytester.makepyfile("def test_it(pie_client): ...")
    program = f"import sys, pytest, pie_sync.testing; sys.exit(pytest.main(['-W', 'error', {str(path)!r}]))"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.pie_server(protocol="process-0.5")
def test_it_works_in_this_run_too(pie_server: LocalServer, pie_client: PieClient) -> None:
    assert pie_client.server_uri == pie_server.uri
    assert pie_client.protocol == "process"


def with_options(pytester: pytest.Pytester, options: dict[str, object]) -> None:
    pytester.makeconftest(
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def pie_engine_options():
            return {options!r}
        """
    )


TWO_TESTS_OF_THE_ENGINE = """
    seen = []

    def test_one(pie_engine):
        assert pie_engine.running
        seen.append(pie_engine)

    def test_two(pie_engine):
        assert pie_engine is seen[0]
"""


class TestEngine:
    """With a fake of pie-server; tests/real_server has the real one."""

    def test_one_server_for_all_tests(self, pytester: pytest.Pytester, python: Path) -> None:
        cache = str(pytester.path / "cache")
        with_options(pytester, {"engine": "cuda", "port": 7, "python": str(python), "cache_folder": cache})
        pytester.makepyfile(TWO_TESTS_OF_THE_ENGINE)
        run(pytester).assert_outcomes(passed=2)
        (log,) = (pytester.path / "cache/logs").iterdir()
        assert "shut down" in log.read_text()

    def test_where_it_can_not_run_the_tests_are_skipped(self, pytester: pytest.Pytester, python: Path) -> None:
        for path in (python.parent / "packages/pie").iterdir():
            path.unlink()
        (python.parent / "packages/pie").rmdir()
        with_options(pytester, {"engine": "cuda", "python": str(python), "cache_folder": "cache"})
        pytester.makepyfile(TWO_TESTS_OF_THE_ENGINE)
        result = run(pytester, "-rs")
        result.assert_outcomes(skipped=2)
        result.stdout.fnmatch_lines(["*the engine needs pie-server, which is not installed*"])

    def test_one_that_does_not_start_is_an_error(self, pytester: pytest.Pytester, python: Path) -> None:
        with_options(pytester, {"engine": "cuda", "port": 1, "python": str(python), "cache_folder": "cache"})
        pytester.makepyfile(TWO_TESTS_OF_THE_ENGINE)
        result = run(pytester)
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines(["*EngineError: the engine did not start: no device*"])

    @pytest.mark.parametrize("options", [{"colour": "blue"}, {"memory": "much"}])
    def test_options_that_can_not_be_used(self, pytester: pytest.Pytester, options: dict[str, object]) -> None:
        with_options(pytester, options)
        pytester.makepyfile(TWO_TESTS_OF_THE_ENGINE)
        result = run(pytester)
        result.assert_outcomes(errors=2)
        result.stdout.fnmatch_lines([f"pie_engine_options: *{next(iter(options))}*"])
