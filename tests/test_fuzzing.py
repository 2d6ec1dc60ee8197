"""What ``make fuzz`` has found and kept, tried again, without atheris."""

from __future__ import annotations

import logging
import sys

import pytest

from fuzzing import harness
from pie_sync._protocol import messages
from pie_sync._session import blobs
from pie_sync._session.early_events import EarlyEvents
from pie_sync._session.event_queue import EventQueue
from pie_sync._session.pending_requests import PendingRequests
from pie_sync._session.router import Router
from pie_sync._transport import frames as _frames

every_target = pytest.mark.parametrize("target", harness.TARGETS)


@pytest.fixture(autouse=True)
def without_atheris(monkeypatch):
    monkeypatch.setitem(sys.modules, "atheris", None)


@pytest.fixture(autouse=True)
def quiet():
    """The warnings are thousands, and cost more than what they tell of."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def try_everything(target: str) -> None:
    """Try what is kept, and the seeds, which need not be kept if others cover as much."""
    module = harness.load(target)
    inputs = [(path.relative_to(harness.ROOT), path.read_bytes()) for path in harness.kept_inputs(target)]
    inputs += [(f"seed {number}", seed) for number, seed in enumerate(module.seeds())]
    for name, data in inputs:
        assert len(data) <= harness.MAX_INPUT
        try:
            module.check(data)
        except Exception as error:
            raise AssertionError(f"fuzz_{target}, {name}: {error!r}") from error


@every_target
def test_kept_inputs(target):
    assert len(list(harness.kept_inputs(target))) >= 20
    try_everything(target)


def test_every_target_is_listed_and_nothing_is_kept_for_others():
    targets = set(harness.TARGETS)
    assert {path.stem for path in harness.ROOT.glob("fuzz_*.py")} == {f"fuzz_{target}" for target in targets}
    for folder in ("corpus", "findings"):
        assert {path.name for path in (harness.ROOT / folder).iterdir()} <= targets


def test_what_is_kept_is_small():
    files = [path for target in harness.TARGETS for path in harness.kept_inputs(target)]
    assert len(files) < 1000
    assert sum(path.stat().st_size for path in files) < 1024 * 1024


def lose_the_last(put_batch):
    return lambda self, items: put_batch(self, items[: max(1, len(items) - 1)])


def forget_what_is_early(take):
    return lambda self, instance_id: (take(self, instance_id)[0][:0], 0)


def ignore_text(handle_text):
    return lambda self, text: None


def forget_to_give_back(remove):
    return lambda self, instance_id, blob_hash: self._downloads.get(instance_id, {}).pop(blob_hash, None)


@pytest.mark.parametrize(
    ("target", "where", "name", "broken"),
    [
        ("frames", _frames.FrameReader, "_check_start", lambda check_start: lambda self, first, length: None),
        ("messages", messages, "_explain", lambda explain: lambda decoders, message: KeyError("type")),
        ("blobs", blobs.BlobAssembler, "_remove", forget_to_give_back),
        ("session", EventQueue, "put_batch", lose_the_last),
        ("session", EarlyEvents, "take", forget_what_is_early),
        ("session", Router, "_handle_text", ignore_text),
        ("session", PendingRequests, "refuse", lambda refuse: lambda self, text: None),
        ("session", PendingRequests, "_clear_early", lambda clear: lambda self: None),
    ],
)
def test_a_defect_is_noticed(monkeypatch, target, where, name, broken):
    """A check that can't fail would guard nothing."""
    monkeypatch.setattr(where, name, broken(getattr(where, name)))
    with pytest.raises(AssertionError, match=f"fuzz_{target}, "):
        try_everything(target)
