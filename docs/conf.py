"""Configures how Sphinx builds the site from these pages, which are plain Markdown."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

import pie_sync

project = "pie-sync"
author = "The pie-sync authors"
project_copyright = author
release = version = pie_sync.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_parser",
    "sphinx_copybutton",  # a button on every block of code
    "sphinx_design",  # tabs and cards
]

html_theme = "furo"
html_title = f"pie-sync {release}"
html_show_sphinx = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"

# What is copied is what is typed: without prompts.
copybutton_prompt_text = r"\$ |>>> "
copybutton_prompt_is_regexp = True
copybutton_only_copy_prompt_lines = True

myst_enable_extensions = ["colon_fence", "deflist"]
# Other pages can link to sections, as on a code host.
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_typehints = "signature"
# Signatures show these names rather than the types that they stand for. reference/types.rst explains the names.
TYPES = re.findall(r"py:type:: (\w+)", (Path(__file__).parent / "reference" / "types.rst").read_text())
autodoc_type_aliases = {name: name for name in TYPES}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = True

# Every name in a signature or a docstring must be a link, except for Python's own names: to look those up, the
# build would need the network.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|concurrent|os|pathlib|ssl|typing)\..*"),
    ("py:class", r"(pie_sync\..*\.)?(Function|P|R|R_co|_Decorator)"),  # type variables, and what they are in
    ("py:class", r"Path"),  # the name of pathlib.Path in Sphinx up to 7
]

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"^- \[(.*?)\]\(([\w./-]+\.(?:md|rst))\)", re.MULTILINE)

#: Pages whose text is another file of the repository. Their own text is for readers of the Markdown file.
BORROWED = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md", "security": "SECURITY.md"}


def read_page(app: Any, page: str, source: list[str]) -> None:
    """Change the text of a page for the site only."""
    text = source[0]
    if page in BORROWED:
        text = (ROOT / BORROWED[page]).read_text(encoding="utf-8").replace("](docs/", "](")
    if page == "index":
        text = with_cards(with_tabs(text)) + contents(text)
    for borrower, file in BORROWED.items():
        text = re.sub(rf"\]\([./]*{file}\)", f"](/{borrower}.md)", text)
    source[0] = text


def contents(index: str) -> str:
    """Return the site's table of contents: the links of the index, under its headings.

    So the index is an ordinary page of links, and there is no second list of pages (or of their titles) that could
    differ.
    """
    tables = []
    for section in index.split("\n## ")[1:]:
        caption, _, text = section.partition("\n")
        pages = [f"{title} <{page}>" for title, page in LINK.findall(text)]
        tables.append("\n".join([f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n", *pages, "```\n"]))
    return "".join(tables)


def with_tabs(index: str) -> str:
    """Make tabs of the sections between two comments, which a reader of the Markdown file doesn't see."""
    before, begin, rest = index.partition("<!-- tabs -->\n")
    sections, end, after = rest.partition("<!-- end of tabs -->\n")
    assert begin
    assert end
    tabs = [
        "\n".join([f":::{{tab-item}} {title}\n", text.strip(), ":::\n"])
        for title, _, text in (section.partition("\n") for section in sections.split("\n### ")[1:])
    ]
    return "".join([before, "::::{tab-set}\n\n", *tabs, "::::\n", after])


CARD = re.compile(r"^- \[(.*?)\]\((.*)\.(?:md|rst)\): (.)(.*)\n", re.MULTILINE)
#: What the front page says of a page.
CARDS = {
    page: f"{title}: {first}{rest}."
    for title, page, first, rest in CARD.findall((Path(__file__).parent / "index.md").read_text(encoding="utf-8"))
}


def with_cards(index: str) -> str:
    """Make a card of each link of a list that has a text behind it, and a line of a list of links alone."""

    def card(link: re.Match[str]) -> str:
        title, page, first, rest = link.groups()
        return f":::{{grid-item-card}} {title}\n:link: {page}\n:link-type: doc\n\n{first.upper()}{rest}\n:::\n"

    def grid(links: re.Match[str]) -> str:
        cards, count = CARD.subn(card, links[0])
        columns = 4 if count % 4 == 0 else 3
        return f"::::{{grid}} 1 2 2 {columns}\n:gutter: 2\n\n{cards}::::\n"

    def line(links: re.Match[str]) -> str:
        return " \N{MIDDLE DOT}\n".join(link[2:] for link in links[0].splitlines()) + "\n"

    index = re.sub(f"(?:{CARD.pattern})+", grid, index, flags=re.MULTILINE)
    return re.sub(r"(?:^- \[[^\]]*\]\([^)]*\)\n)+", line, index, flags=re.MULTILINE)


DESCRIPTION = "pie-sync: the blocking Python client for Pie, the programmable LLM serving system"
DESCRIPTION_LENGTH = 200  # characters; search engines show fewer


def add_description(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Describe a page for search engines and for whoever is sent a link: by its card, and by its beginning."""
    text = DESCRIPTION
    if doctree is not None:
        paragraphs = doctree.findall(nodes.paragraph)
        first = next(paragraph for paragraph in paragraphs if not isinstance(paragraph.parent, nodes.entry))
        text = " ".join(f"{CARDS.get(page, '')} {first.astext()}".split())
    if len(text) > DESCRIPTION_LENGTH:
        text = text[:DESCRIPTION_LENGTH].rpartition(" ")[0] + "\N{HORIZONTAL ELLIPSIS}"
    tags = context.get("metatags", "")
    context["metatags"] = f'{tags}<meta name="description" content="{escape(text)}" />\n'


def read_docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Keep napoleon from reading the beginning of a sentence as a type: types are in the signatures."""
    if what == "property":
        lines[:0] = ["..", ""]  # an empty comment
    if "Returns:" in lines:
        begin = lines.index("Returns:")
        text = lines.pop(begin + 1).strip()
        lines[begin] = f":returns: {text}"


def read_signature(
    app: Any, what: str, name: str, thing: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """Show the names of types instead of Sphinx's own placeholders for them."""

    def plain(text: str | None) -> str | None:
        return text and re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text).replace("<factory>", "...")

    return plain(arguments), plain(returned)


def find_public_name(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Look up a bare name in ``pie_sync``, if a docstring of one of its modules uses it."""
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
    """Register the functions above."""
    app.connect("source-read", read_page)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", read_signature)
    app.connect("missing-reference", find_public_name)
    app.connect("html-page-context", add_description)
