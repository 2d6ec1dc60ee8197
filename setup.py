"""Makes the long description: the README, with links that work elsewhere. Everything else is in setup.cfg."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def repository() -> str:
    """Return the address of the source, from which the addresses of its files are made."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    urls = dict(line.split(" = ") for line in config["metadata"]["project_urls"].strip().splitlines())
    return urls["Source"]


def with_absolute_links(text: str, base: str) -> str:
    """Return Markdown with an absolute link for every one that is relative to the repository; code stays."""

    def absolute(match: "re.Match[str]") -> str:
        code, image, label, target = match.groups()
        if code or "://" in target or target.startswith(("#", "mailto:")):
            return match[0]
        # A page shows a file with everything around it; an image has to be the file itself.
        return f"{image}[{absolute_inside(label)}]({base}/{'raw' if image else 'blob'}/main/{target})"

    def absolute_inside(label: str) -> str:
        return pattern.sub(absolute, label)

    label = r"(?:[^\[\]]|\[[^\[\]]*\](?:\([^()]*\))?)*"  # may hold an image
    pattern = re.compile(rf"(```.*?```|`[^`\n]*`)|(!?)\[({label})\]\(([^()\s]+)\)", re.DOTALL)
    return pattern.sub(absolute, text)


if __name__ == "__main__":
    setup(
        long_description=with_absolute_links((ROOT / "README.md").read_text(encoding="utf-8"), repository()),
        long_description_content_type="text/markdown",
    )
