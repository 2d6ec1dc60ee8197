"""What the pages of docs/ claim beyond their code: what it prints, quoted files, tests by name. And the site.

That their code runs and their links lead somewhere is in test_documentation.py.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pie_sync import Instance, PieClient
from tests.pages import before_engine, unwrapped
from tests.rooms import rooms
from tests.testing.official import official_python

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("**/*.md"))
PICTURES = [*sorted(DOCS.glob("pictures/*.svg")), DOCS / "performance.svg"]
SVG = "{http://www.w3.org/2000/svg}"

CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What a page says that its code prints: "That prints:", and a block.
PRINTED = re.compile(r"\bprints:\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: A block whose first line names the file that it's from.
QUOTED = re.compile(r"^```text\n# from ([\w./-]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: A test by its name, as pytest would be told.
TEST_NAME = re.compile(r"`(tests/[\w/.]+\.py)((?:::\w+)+)`")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pages_with(pattern: re.Pattern[str]) -> list[Path]:
    return [page for page in PAGES if pattern.search(page.read_text())]


@pytest.mark.parametrize("page", pages_with(PRINTED), ids=name)
def test_what_a_page_prints(page):
    text = before_engine(page.read_text())
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n\n".join(CODE.findall(text))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    rest = result.stdout
    for printed in PRINTED.findall(text):
        before, found, rest = rest.partition(unwrapped(printed))
        assert found, f"{printed!r} is not in {before!r}"


@pytest.mark.parametrize("page", pages_with(QUOTED), ids=name)
def test_what_a_page_quotes(page):
    for file, quoted in QUOTED.findall(page.read_text()):
        assert quoted in (ROOT / file).read_text()


@pytest.mark.parametrize("page", pages_with(TEST_NAME), ids=name)
def test_the_tests_that_a_page_names_are_as_it_says(page):
    kept, _, gaps = page.read_text().partition("\n## Known gaps\n")
    wrong = [
        f"{file}{path} {found}"
        for text, wanted in ((kept, "is a test"), (gaps, "is expected to fail"))
        for file, path in TEST_NAME.findall(text)
        if (found := what_is(ROOT / file, path.split("::")[1:])) != wanted
    ]
    assert not wrong


def test_every_known_gap_is_told():
    _, _, gaps = (DOCS / "reliability.md").read_text().partition("\n## Known gaps\n")
    untold = [
        f"{file.name}: {node.name}"
        for folder in ("faults", "hostile")
        for file in sorted((ROOT / "tests" / folder).glob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
        and any("mark.xfail" in ast.unparse(mark) for mark in node.decorator_list)
        and f"::{node.name}`" not in gaps
    ]
    assert not untold


def what_is(file: Path, path: list[str]) -> str:
    """Whether there is such a test, and whether it's expected to fail."""
    if not file.exists():
        return "does not exist"
    body = ast.parse(file.read_text()).body
    marks = []
    for part in path:
        definitions = [
            node for node in body if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == part
        ]
        if not definitions:
            return "does not exist"
        marks += map(ast.unparse, definitions[0].decorator_list)
        body = definitions[0].body
    return "is expected to fail" if any("mark.xfail" in mark for mark in marks) else "is a test"


def test_reliability_names_a_test_for_each_promise():
    text, _, _ = (DOCS / "reliability.md").read_text().partition("\n## Known gaps\n")
    promises = text.split("\n### ")[1:]
    assert len(promises) > 20
    for promise in promises:
        assert TEST_NAME.search(promise), promise.partition("\n")[0]


def test_the_testing_guide_is_a_test_suite(tmp_path):
    path = tmp_path / "test_guide.py"
    path.write_text("\n\n".join(CODE.findall((DOCS / "guides" / "testing.md").read_text())))
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "hello.wat", tmp_path / "examples")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, path]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


@pytest.mark.timeout(400)  # the first run builds the official client's environment
def test_the_async_original_does_what_its_port_does(tmp_path):
    """The page shows both programs; they must print the same."""
    text = (DOCS / "async.md").read_text()
    (original,) = re.findall(r"^```text\n(import asyncio\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    setting, port, *_ = CODE.findall(text)
    script = tmp_path / "original.py"
    script.write_text(original)
    program = "\n".join(
        [
            setting,
            "import subprocess, sys, os",
            f"command = [{str(official_python('0.2.1'))!r}, '-I', {str(script)!r}]",
            "environment = {**os.environ, 'HOME': str(home), 'PIE_URI': uri}",
            "run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)",
            "print(run.stdout)",
            "print('-----')",
            port,
        ]
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    ours, theirs = (part.strip().splitlines() for part in result.stdout.split("-----\n"))
    assert ours == theirs
    assert ours


@pytest.mark.parametrize("kind", [PieClient, Instance])
def test_the_overview_names_every_method(kind):
    named = set(
        re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", (DOCS / "reference" / "overview.md").read_text())))
    )
    assert {name for name in vars(kind) if not name.startswith("_")} - named == set()


@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs the extra docs")
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "-d", tmp_path / "doctrees", DOCS]
    result = subprocess.run([*command, tmp_path / "html"], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    descriptions = {}
    for page in PAGES:
        html = (tmp_path / "html" / page.relative_to(DOCS).with_suffix(".html")).read_text()
        (descriptions[name(page)],) = re.findall(r'<meta name="description" content="(.*?)" />', html)
        assert "on the engine" not in re.sub(r"<!--.*?-->", "", html)
    assert {page: text for page, text in descriptions.items() if not 50 <= len(text) <= 250} == {}
    assert len(set(descriptions.values())) == len(descriptions), "each page has a description of its own"


@pytest.mark.parametrize("picture", PICTURES, ids=name)
def test_a_picture_can_be_read_on_a_phone_and_aloud(picture):
    svg = ElementTree.parse(picture).getroot()
    assert (svg.findtext(f"{SVG}title") or "").strip()
    assert (svg.findtext(f"{SVG}desc") or "").strip()
    _, _, width, _ = map(float, svg.attrib["viewBox"].split())
    assert width <= 480
    assert "font-size=" not in picture.read_text()  # all sizes are in the style
    fonts = re.findall(r"\bfont(?:-size)?:([^;]*)", picture.read_text())
    sizes = [float(size) for font in fonts for size in re.findall(r"([\d.]+)px", font)]
    assert len(sizes) == len(fonts) > 0
    assert min(sizes) >= 11
    # The text of a page is 358 px wide on a phone of 390 px.
    assert min(sizes) * 358 / width >= 11


@pytest.mark.parametrize("picture", PICTURES, ids=name)
def test_a_picture_is_on_a_page_with_a_text_in_its_place(picture):
    pages = "\n".join(page.read_text() for page in PAGES)
    texts = re.findall(rf"!\[([^\]]*)\]\((?:\.\./)?(?:pictures/)?{picture.name}\)", pages)
    assert texts
    assert min(map(len, texts)) > 30


def test_the_picture_of_the_command_is_never_empty_and_soon_complete():
    svg = ElementTree.parse(DOCS / "pictures" / "command.svg").getroot()
    first, second, *_, last = [text.get("style") for text in svg.iter(f"{SVG}text")]
    assert first is second is None
    (seconds,) = re.findall(r"animation-delay: ([\d.]+)s", str(last))
    assert float(seconds) < 3


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_the_picture_of_the_command_shows_what_it_shows_today():
    command = [sys.executable, ROOT / "scripts" / "record-command", "--check"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert result.returncode == 0, result.stderr


class Box:
    """A box of the picture of the rooms."""

    def __init__(self, rect: ElementTree.Element) -> None:
        self.left, self.top, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        self.right, self.bottom = self.left + width, self.top + height


def drawn_rooms() -> tuple[dict[str, Box], list[tuple[str, str]]]:
    """The rooms in docs/pictures/rooms.svg, and its arrows: from which room to which."""
    svg = ElementTree.parse(DOCS / "pictures" / "rooms.svg").getroot()
    boxes = {}
    for group in svg.iter(f"{SVG}g"):
        rect, label = group.find(f"{SVG}rect"), group.find(f"{SVG}text[@class='name']")
        if rect is not None and label is not None:
            boxes[str(label.text)] = Box(rect)
    arrows = []
    for path in svg.iter(f"{SVG}path"):
        if path.get("class") == "arrow":
            x, begin, end = map(float, re.findall(r"[\d.]+", path.attrib["d"]))
            touched = {room: box for room, box in boxes.items() if box.left < x < box.right}
            (source,) = [room for room, box in touched.items() if box.bottom == begin]
            (target,) = [room for room, box in touched.items() if box.top == end]
            arrows.append((source, target))
    return boxes, arrows


def test_the_picture_of_the_rooms_shows_what_the_table_says():
    (boxes, arrows), listed = (
        drawn_rooms(),
        {room: allowed for room, allowed in rooms().items() if not re.match("testing/.", room)},
    )
    assert set(boxes) == set(listed)
    assert [arrow for arrow in arrows if arrow[1] not in listed[arrow[0]]] == []
    assert {room for room, allowed in listed.items() if allowed} == {source for source, _ in arrows}


def test_in_the_picture_of_the_rooms_every_import_leads_down():
    boxes, _ = drawn_rooms()
    upwards = [
        (room, imported)
        for room, allowed in rooms().items()
        if not room.startswith("testing/")  # beside the others: one of its modules imports the client
        for imported in allowed
        if boxes[room].bottom > boxes[imported].top
    ]
    assert not upwards
