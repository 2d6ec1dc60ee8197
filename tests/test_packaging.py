"""What is built for the package index: its long description, and what the sdist holds."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
from email import message_from_string
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt

import pie_sync

ROOT = Path(__file__).parent.parent
BASE = "https://host/pie-sync"

#: Where everything is that development needs, and so what the sdist holds besides the package.
FOLDERS = ("benchmarks", "docs", "examples", "fuzzing", "scripts", "tests", "pie_sync")


def load_setup() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pie_sync_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup = load_setup()


class Targets(HTMLParser):
    """Collects the targets of links and images."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [str(value) for name, value in attrs if name in ("href", "src")]


def rendered(text: str) -> str:
    """Render as package indexes do: CommonMark with tables."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/a.md)", f"[a]({BASE}/blob/main/docs/a.md)"),
        ("[a](docs/a.md#part)", f"[a]({BASE}/blob/main/docs/a.md#part)"),
        ("[`a`](b)", f"[`a`]({BASE}/blob/main/b)"),
        ("![a](a.svg)", f"![a]({BASE}/raw/main/a.svg)"),
        ("[![a](a.svg)](b.md)", f"[![a]({BASE}/raw/main/a.svg)]({BASE}/blob/main/b.md)"),
        ("![two\nlines](a.svg)", f"![two\nlines]({BASE}/raw/main/a.svg)"),
        ("[a](https://b) [c](#d) [e](mailto:f)", "[a](https://b) [c](#d) [e](mailto:f)"),
        ("`[a](b)`\n```\n[a](b)\n```\n", "`[a](b)`\n```\n[a](b)\n```\n"),
    ],
)
def test_relative_links_become_absolute(text: str, expected: str) -> None:
    assert setup.with_absolute_links(text, BASE) == expected


def test_every_link_of_the_long_description_works_elsewhere() -> None:
    readme = (ROOT / "README.md").read_text()
    base = setup.repository()
    assert base.startswith("https://")
    targets = Targets(rendered(setup.with_absolute_links(readme, base))).found
    assert len(targets) == len(Targets(rendered(readme)).found) > 5
    for target in targets:
        assert target.startswith(("https://", "#")), target
        if target.startswith(base):
            kind, branch, *path = target[len(base) + 1 :].partition("#")[0].split("/")
            assert (kind, branch) in (("blob", "main"), ("raw", "main"))
            assert ROOT.joinpath(*path).exists(), target


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> tarfile.TarFile:
    """The sdist, made of a copy: setuptools writes beside the sources."""
    folder = tmp_path_factory.mktemp("sdist")
    made = (".*cache", "__pycache__", ".venv*", ".hypothesis", "build", "dist", "*.egg-info", ".git", "site")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*made))
    program = "import setuptools.build_meta as backend, sys; print(backend.build_sdist(sys.argv[1]))"
    subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=folder / "source",
        check=True,
        capture_output=True,
        timeout=110,
    )
    (path,) = folder.glob("*.tar.gz")
    return tarfile.open(path)


def test_the_sdist_holds_what_its_tests_need(sdist: tarfile.TarFile) -> None:
    names = {name.partition("/")[2] for name in sdist.getnames()}
    wanted = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    wanted += [*ROOT.glob("*.md"), *ROOT.glob("*.py"), ROOT / "Makefile", ROOT / ".pre-commit-config.yaml"]
    lacking = {path.relative_to(ROOT).as_posix() for path in wanted if "__pycache__" not in path.parts} - names
    assert not lacking
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_metadata(sdist: tarfile.TarFile) -> None:
    (member,) = [name for name in sdist.getnames() if name.count("/") == 1 and name.endswith("PKG-INFO")]
    file = sdist.extractfile(member)
    assert file is not None
    metadata = message_from_string(file.read().decode())
    assert metadata["Version"] == pie_sync.__version__
    assert metadata["Description-Content-Type"] == "text/markdown"
    urls = dict(url.split(", ") for url in metadata.get_all("Project-URL", []))
    assert {"Homepage", "Source", "Documentation", "Changelog", "Issues"} <= set(urls)
    assert "inferlet" in metadata["Keywords"]
    description = metadata.get_payload()
    assert f"]({setup.repository()}/blob/main/docs/" in str(description)


def test_what_runs_before_a_commit_is_what_make_runs() -> None:
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]
    hooks = re.findall(r"^ *entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text(), re.MULTILINE)
    assert hooks == commands
