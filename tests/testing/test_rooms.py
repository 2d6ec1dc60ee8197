"""Which folder of ``pie_sync.testing`` may import which. Imports in functions and for the type checker count."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pie_sync"
TESTING = PACKAGE / "testing"

#: What each room may import, besides itself.
ROOMS = {
    "testing/__init__.py": {"testing/local_server.py", "testing/_programs"},
    "testing/pytest_plugin.py": {"testing/local_server.py", "client.py", "errors.py"},
    "testing/local_server.py": {"testing/_dialects", "testing/_server", "testing/_network", "testing/_programs"},
    "testing/_dialects": {"testing/_server", "testing/_programs", "events.py"},
    "testing/_server": {"testing/_network", "testing/_programs", "events.py"},
    "testing/_network": set(),
    "testing/_programs": {"events.py"},
}


def room_of(path: Path) -> str:
    """The folder of a module; the module itself if it is directly in the package or in testing/."""
    relative = path.relative_to(PACKAGE)
    parts = relative.parts
    depth = 2 if parts[0] == "testing" else 1
    return "/".join(parts[:depth])


def imported_by(path: Path) -> set[str]:
    """The rooms that a module imports anything from."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("pie_sync") for alias in node.names), f"{path}: absolute import"
        if not isinstance(node, ast.ImportFrom):
            continue
        if not node.level:
            assert not (node.module or "").startswith("pie_sync"), f"{path}: absolute import"
            continue
        folder = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
        names = [folder] if node.module and not folder.is_dir() else [folder / alias.name for alias in node.names]
        for name in names:
            module = name.with_suffix(".py")
            found.add(room_of(module if module.exists() else name))
    return found


def test_every_room_has_a_rule() -> None:
    modules = [path for path in TESTING.rglob("*.py") if "__pycache__" not in path.parts]
    assert {room_of(path) for path in modules} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_is_below_it(room: str) -> None:
    path = PACKAGE / room
    for module in path.rglob("*.py") if path.is_dir() else [path]:
        assert imported_by(module) <= {room, *ROOMS[room]}, module


def test_the_rules_have_no_circle() -> None:
    left = dict(ROOMS)
    while left:
        lowest = [room for room, below in left.items() if not below & set(left)]
        assert lowest, left
        for room in lowest:
            del left[room]


@pytest.mark.parametrize("folder", [room for room in ROOMS if not room.endswith(".py")])
def test_a_folder_says_what_is_in_it_and_what_is_not(folder: str) -> None:
    text = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text())) or ""
    assert "Not in here: " in text
