"""How the site is built from these pages. The pages themselves are plain Markdown, and read as such."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pie_sync

project = "pie-sync"
author = "The pie-sync authors"
project_copyright = author
release = version = pie_sync.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]

html_theme = "furo"
html_title = f"pie-sync {release}"
html_show_sphinx = False

# Sections can be linked to from other pages, as on a code host.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
# The names that the signatures are written with, rather than what they stand for. They are told in
# reference/types.rst.
TYPES = re.findall(r"py:type:: (\w+)", (Path(__file__).parent / "reference" / "types.rst").read_text())
autodoc_type_aliases = {name: name for name in TYPES}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True

# Every name in a signature or a docstring leads somewhere, except for Python's own: to look those up, the build
# would need the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|concurrent|os|pathlib|ssl|typing)\..*"),
    ("py:class", r"pie_sync\.testing\.local_server\.Function"),  # a type variable
    ("py:class", r"Path"),  # as Sphinx up to 7 calls pathlib's
]

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\]\(([\w./-]+\.(?:md|rst))\)")

#: Pages that are a text from elsewhere in the repository; what their own file says is for readers of the file.
BORROWED = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "security": "SECURITY.md"}


def read_page(app: Any, page: str, source: list[str]) -> None:
    """Do to the text of a page what only the site needs."""
    text = source[0]
    if page in BORROWED:
        text = (ROOT / BORROWED[page]).read_text(encoding="utf-8").replace("](docs/", "](")
    if page == "index":
        text += contents(text)
    for borrower, file in BORROWED.items():
        text = re.sub(rf"\]\([./]*{file}\)", f"](/{borrower}.md)", text)
    source[0] = text


def contents(index: str) -> str:
    """Return the site's table of contents: the links of the index, under its headings.

    So the index is a page of links like any other, and there's no second list of pages that could differ.
    """
    tables = []
    for section in index.split("\n## ")[1:]:
        caption, _, text = section.partition("\n")
        pages = [link for link in LINK.findall(text) if not link.startswith("..")]
        tables.append("\n".join([f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n", *pages, "```\n"]))
    return "".join(tables)


def read_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from taking the beginning of a sentence for a type: types are in the signatures."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment
    if "Returns:" in lines:
        begin = lines.index("Returns:")
        text = lines.pop(begin + 1).strip()
        lines[begin] = f":returns: {text}"


def read_signature(
    app: Any, what: str, name: str, thing: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show the names of types where Sphinx shows its own stand-ins for them."""

    def plain(text: str | None) -> str | None:
        return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text).replace("<factory>", "...")

    return plain(arguments), plain(returned)


def find_public_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Look up in ``pie_sync`` what a docstring of one of its modules calls by its bare name."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py" or target.startswith("pie_sync"):
        return None
    python = env.get_domain("py")
    for kind in (node["reftype"], "type"):  # Sphinx up to 7 looks for a signature's types among the classes only
        found = python.resolve_xref(env, node["refdoc"], app.builder, kind, f"pie_sync.{target}", node, content)
        if found is not None:
            return found
    return None


def setup(app: Any) -> None:
    """Register what is above."""
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", read_signature)
    app.connect("missing-reference", find_public_name)
