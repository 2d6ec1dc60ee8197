"""What the Tab key offers, as bash asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pie_sync import PieClient
from pie_sync.testing import LocalServer

from .conftest import RunHere


def completed(run_here: RunHere, words: str, **environment: str) -> set[str]:
    count = len(words.split()) - 1
    completing = {"_PIE_SYNC_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    result = run_here(**completing, **environment)
    assert result.stderr == ""
    return set(result.stdout.split())


def test_completion_of_instances(
    run_here: RunHere, server: LocalServer, client: PieClient, free_port: int
) -> None:
    """The ids of the server that the command line names, or the environment; nothing where there is none."""
    first, second = (client.launch_instance_from_registry("echo") for _ in range(2))
    for command in ("attach", "terminate"):
        here = {"PIE_URI": server.uri}
        assert completed(run_here, f"pie-sync {command} {first.id[:9]}", **here) == {first.id}
        words = f"pie-sync --uri {server.uri} {command} {second.id[:9]}"
        assert completed(run_here, words) == {second.id}
        assert (
            completed(run_here, f"pie-sync {command} {first.id[:9]}", PIE_URI=f"ws://127.0.0.1:{free_port}")
            == set()
        )


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("pie-sync t", {"terminate"}),
        ("pie-sync config s", {"show", "set"}),
        ("pie-sync run --se", {"--send-stdin"}),
        ("pie-sync config set p", {"port", "private_key_path"}),
        ("pie-sync config set enable_auth t", {"true"}),
        ("pie-sync serve --protocol 0.2", {"0.2", "0.2-names"}),
        ("pie-sync ping --profile l", {"lab", "laptop"}),
        ("pie-sync --profile la", {"lab", "laptop"}),
        ("pie-sync query m", {"model_status"}),
    ],
)
def test_completion(run_here: RunHere, home: Path, words: str, completions: set[str]) -> None:
    (home / ".pie").mkdir()
    text = "".join(f'[profiles.{name}]\nuri = "ws://{name}"\n' for name in ("lab", "laptop", "cloud"))
    (home / ".pie/cli_config.toml").write_text(text)
    assert completed(run_here, words) == completions
