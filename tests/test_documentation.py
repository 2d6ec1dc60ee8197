"""Every code block of the READMEs and of docs/ runs.

The Python blocks of a page run one after the other in one process, from the repository's root, as a reader would
type them. (What needs the real engine runs in tests/real_server/.) Of shell blocks, every line must be a known
command: make's targets are looked up in the Makefile, and what can be tried without installing anything is tried.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import FRONT_PAGES, WIDTH, before_engine, unwrapped, without_engine_blocks

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("fuzzing/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=name)
def test_python_blocks(page):
    text = before_engine(page.read_text())
    program = "\n\n".join(code for language, code in BLOCK.findall(text) if language == "python")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


def check_what_it_says_it_prints(code: str, printed: str) -> None:
    """Compare what a block printed with its comments: ``print(...)  # that``."""
    for said in re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE):
        assert said in printed.splitlines()


@pytest.mark.parametrize("page", FRONT_PAGES, ids=name)
def test_each_python_block_of_a_front_page_runs_alone(page):
    text = without_engine_blocks(page.read_text())  # those run alone in tests/real_server/
    codes = [code for language, code in BLOCK.findall(text) if language == "python"]
    assert codes
    for code in codes:
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout
        check_what_it_says_it_prints(code, result.stdout)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=name)
def test_shell_blocks(page):
    recorded = (ROOT / "scripts" / "record-command").read_text()
    for line in "".join(blocks(page, "sh")).splitlines():
        command, *arguments = shlex.split(line, comments=True)
        command = command.replace(".venv/bin/", "")  # where make demo installs
        if arguments[:2] == ["-m", "pip"]:
            command, arguments = "pip", arguments[2:]
        if command == "make":
            # -n: say what would be done. The tests run inside "make test", and must not start themselves.
            subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=True, capture_output=True, timeout=60)
        elif command == "pip":
            extras = re.findall(r"\[(.*?)\]", line)
            assert arguments[0] == "install"
            for extra in ",".join(extras).split(",") if extras else []:
                assert re.search(rf"^{extra} =", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
        elif command == "pie-sync" and arguments == ["serve", "--engine"]:
            pass  # tests/real_server/test_engine_server.py tries it
        elif command == "pie-sync":
            # A test compares what these commands show with a picture.
            assert f'"{line}"' in recorded
        elif command == "export":
            assert re.fullmatch(r"PIE_URI=ws://127\.0\.0\.1:8080", *arguments)  # as pie-sync serve prints it
        elif command == "python":
            assert f"`{arguments[0]}`" in page.read_text()  # the page says what to save under this name
        else:
            pytest.fail(f"{page.name}: don't know how to try {line!r}")


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_says_its_language(page):
    assert all(language in ("python", "sh", "text") for language, _ in BLOCK.findall(page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_between_pages(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.skipif(importlib.util.find_spec("ruff") is None, reason="needs ruff")
def test_the_python_of_pages_is_formatted_for_their_width():
    command = [sys.executable, ROOT / "scripts" / "format-pages", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_fit_the_width_of_a_page(page):
    lines = "".join(text for _, text in BLOCK.findall(page.read_text())).splitlines()
    assert [line for line in lines if len(line) > WIDTH] == []


def test_a_wrapped_line_is_one_line():
    long = f"{'x' * 80} and more"
    assert unwrapped(f"a\n{long}\n    also\n    this\nb\n") == f"a\n{long} also\n    this\nb\n"
    assert unwrapped(f"{long}\n    {'y' * 80}\n    ending\n") == f"{long} {'y' * 80} ending\n"
    assert unwrapped("def f():\n    return 5\n") == "def f():\n    return 5\n"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) < 600
