"""Batches on a real local Ray, with a worker that dies."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from pie_sync.batch import RayExecutor

ON_RAY = Path(__file__).with_name("on_ray.py")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
def test_a_ray_cluster():
    done = subprocess.run([sys.executable, ON_RAY], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    squares = [number**2 for number in range(200)]
    assert seen["initialized"] is True, "by the executor"
    assert seen["results"] == squares
    assert seen["with a dead worker"] == squares
    assert seen["launches"] == 2, "one by the worker that died, one by another"
    assert seen["in a task"] == squares
    assert seen["own error"] == "ZeroDivisionError"
    assert seen["cancelled"] is True
    assert seen["as wide as the cluster"] is True
    assert seen["driver"] not in seen["workers"]


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'pie-sync\[ray\]'"):
        RayExecutor()
