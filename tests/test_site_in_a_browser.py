"""The site as a browser shows it: no page is wider than its window, on a phone or at a desk, light or dark."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: Loads page after page in a frame of the width of a window, and writes down what sticks out of it.
MEASURE = """
<!doctype html><body><pre id="result"></pre><script>
const pages = %s, width = %d, found = {};
// Code and tables scroll by themselves. Nothing else may, and nothing may be cut.
const scrolls = (element) => element.closest("pre, .table-wrapper") !== null;
const look = (frame) => {
  const page = frame.contentDocument, view = frame.contentWindow, root = page.documentElement;
  const article = page.querySelector("article") || page.body;
  const wide = [...article.querySelectorAll("*")]
    .filter((element) => element.getBoundingClientRect().right > view.innerWidth + 1 && !scrolls(element))
    .map((element) => element.tagName + ": " + (element.textContent || element.src).trim().slice(0, 60));
  // On a phone no code is cut, since no scrollbar would tell.
  const cut = [...article.querySelectorAll("pre")]
    .filter((code) => width < 500 && code.scrollWidth > code.clientWidth + 1)
    .map((code) => code.textContent.slice(0, 60));
  const images = [...article.querySelectorAll("img")];
  const unseen = images.filter((image) => !image.naturalWidth).map((image) => image.src);
  return {text: article.textContent.length, scroll: root.scrollWidth - view.innerWidth, wide, cut, unseen};
};
const next = () => {
  const name = pages.shift();
  if (!name) { document.getElementById("result").textContent = JSON.stringify(found); return; }
  const frame = document.createElement("iframe");
  frame.style = `width: ${width}px; height: 900px; border: 0`;
  frame.onload = () => { found[name] = look(frame); frame.remove(); next(); };
  frame.src = name;
  document.body.append(frame);
};
next();
</script></body>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if BROWSER is None:
        if os.environ.get("PIE_SYNC_REQUIRE_BROWSER"):
            pytest.fail("there is no browser: scripts/install-browser installs one")
        pytest.skip("needs Chromium")
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("needs the extra docs")
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-b",
        "html",
        "-d",
        folder / "doctrees",
        DOCS,
        folder / "html",
    ]
    subprocess.run(command, check=True, timeout=180)
    return folder / "html"


def pages(site: Path) -> list[str]:
    return sorted(str(page.relative_to(site)) for page in site.rglob("*.html") if "_modules" not in page.parts)


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1300, "light")])
def test_nothing_sticks_out_of_the_window(site: Path, width: int, scheme: str, tmp_path: Path) -> None:
    every = pages(site)
    measure = site / f"measure-{width}-{scheme}.htm"
    measure.write_text(MEASURE % (json.dumps(every), width))
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"),
        *(f"--user-data-dir={tmp_path}", "--window-size=1400,1000", "--virtual-time-budget=100000", "--dump-dom"),
        *(["--blink-settings=preferredColorScheme=0"] if scheme == "dark" else []),
        measure.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
    (result,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    found = json.loads(result.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert sorted(found) == every
    assert all(page["text"] > 20 for page in found.values()), "every page was shown"
    assert {
        name: page
        for name, page in found.items()
        if page["scroll"] > 0 or page["wide"] or page["cut"] or page["unseen"]
    } == {}
