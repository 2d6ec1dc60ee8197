"""What docs/compatibility.md says is covered: the tests that it names exist, and no method is missing."""

from __future__ import annotations

import ast
import re

from pie_sync import Instance, PieClient

from .harness import REPOSITORY

PAGE = (REPOSITORY / "docs/compatibility.md").read_text()

#: What asks nothing of the server.
ABOUT_THE_OBJECT = {"closed", "server_uri", "stats", "id", "finished"}


def names_in(file: str) -> set[str]:
    """The tests in a file, as ``test`` or ``Class::test``."""
    found = set()
    for node in ast.parse((REPOSITORY / file).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return {name for name in found if "test_" in name}


def test_every_test_that_is_named_exists():
    named = re.findall(r"`([\w/.]+\.py)::([\w:]+)`", PAGE)
    assert len(named) == PAGE.count(".py::") > 0
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []


def test_every_method_is_in_the_table():
    rows = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
    public = {name for kind in (PieClient, Instance) for name in vars(kind) if not name.startswith("_")}
    assert {name for name in public - ABOUT_THE_OBJECT if not re.search(rf"\b{name}\b", rows)} == set()


def test_every_note_is_referred_to():
    notes = re.findall(r"^### (\d+)\.", PAGE, re.MULTILINE)
    assert notes == [str(number + 1) for number in range(len(notes))]
    referred = {number for group in re.findall(r"\[([\d, ]+)\] \|", PAGE) for number in group.split(", ")}
    assert referred == set(notes)
