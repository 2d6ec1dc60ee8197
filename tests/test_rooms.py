"""Which room of pie_sync may import which, as docs/architecture.md says, and which modules are pure."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.rooms import PACKAGE, ROOT, WITHOUT_RULE, imported_modules, modules, room_of, rooms

#: What a pure module must not import.
IMPURE = {
    "asyncio",
    "multiprocessing",
    "queue",
    "select",
    "selectors",
    "socket",
    "ssl",
    "subprocess",
    "threading",
    "time",
}


def test_every_room_has_a_rule():
    there = {room_of(module) for module in modules()} - WITHOUT_RULE
    assert set(rooms()) - {"testing/"} == there


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_what_it_may(room):
    allowed = rooms()[room]
    inside = [module for module in modules() if room_of(module).startswith(room)]
    assert inside
    wrong = {
        f"{module.relative_to(PACKAGE)} imports {imported.relative_to(PACKAGE)}"
        for module in inside
        for imported in imported_modules(module)
        if not room_of(imported).startswith((room, *allowed)) and imported.name != "_version.py"
    }
    assert wrong == set()


def test_nothing_is_imported_in_a_circle():
    allowed = rooms()
    # The server is beside the rest: only its plugin imports the client.
    allowed = {room: imports for room, imports in allowed.items() if not room.startswith("testing/")}
    order: list[str] = []
    while allowed:
        free = [room for room, imports in allowed.items() if not imports & set(allowed)]
        assert free, f"a circle among {sorted(allowed)}"
        for room in free:
            order.append(room)
            del allowed[room]
    assert order[-1] in ("cli/", "batch/")


def test_every_folder_says_what_is_not_in_it():
    folders = [path for path in PACKAGE.rglob("__init__.py") if path.parent.name.startswith("_")]
    assert len(folders) > 8
    for path in folders:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert "Not in here:" in text, path


def pure_modules() -> list[Path]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    [sentence] = re.findall(r"^\*\*Pure\*\* modules.*?\n\n", text, re.MULTILINE | re.DOTALL)
    paths = [PACKAGE / name for name in re.findall("`(.*?)`", sentence)]
    assert len(paths) > 5
    return [module for path in paths for module in (sorted(path.rglob("*.py")) if path.is_dir() else [path])]


@pytest.mark.parametrize("module", pure_modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_pure_module_imports_no_socket_thread_or_clock(module):
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").split(".")[0])
    assert not found & IMPURE


#: Modules that are tested with another one, and why.
TESTED_ELSEWHERE = {
    "_session/pending_request.py": "is one entry of pending_requests.py",
}


def test_the_tests_mirror_the_rooms():
    """``_session/router.py`` is tested by ``tests/session/test_router.py``, or in a folder below that."""
    missing = []
    for module in modules():
        path = module.relative_to(PACKAGE)
        if module.name in ("__init__.py", "__main__.py", "_version.py") or path.as_posix() in TESTED_ELSEWHERE:
            continue
        *folders, name = (part.lstrip("_") for part in path.parts)
        tests = ROOT.joinpath("tests", *folders)
        found = tests.rglob(f"test_{name}") if folders else tests.glob(f"test_{name}")
        if not any(found):
            missing.append(path.as_posix())
    assert not missing
