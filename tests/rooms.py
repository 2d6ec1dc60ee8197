"""Reads the rooms of pie_sync from docs/architecture.md, and the imports of each module."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pie_sync"

#: Modules without a rule: one lists the public names, one starts the command, and one has the version.
WITHOUT_RULE = {"__init__.py", "__main__.py", "_version.py"}


def rooms() -> dict[str, set[str]]:
    """Return the rooms that docs/architecture.md lists, each with the rooms that it may import."""
    text = (ROOT / "docs" / "architecture.md").read_text().split("## Rooms")[1]
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    return {re.findall("`(.*?)`", row[1])[0]: set(re.findall("`(.*?)`", row[3])) for row in rows}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room_of(module: Path) -> str:
    """Return a module's folder with a slash at its end, or the module itself in a folder with several rooms."""
    parts = module.relative_to(PACKAGE).parts
    depth = 2 if parts[0] == "testing" else 1
    return "/".join(parts) if len(parts) <= depth else "/".join(parts[:depth]) + "/"


def imported_modules(module: Path) -> set[Path]:
    """Return the modules of the package that a module imports, also in a function or for the type checker only."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("pie_sync") for alias in node.names), f"{module}: absolute import"
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = module.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            names = [folder / alias.name for alias in node.names] if folder.is_dir() else [folder]
            for path in names:
                if path.is_dir():
                    found.add(path / "__init__.py")
                elif path.with_suffix(".py").exists():
                    found.add(path.with_suffix(".py"))
                else:
                    found.add(path.parent / "__init__.py")
    return found
