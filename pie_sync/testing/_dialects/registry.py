"""What servers up to Pie 0.4 say of a program that they don't have, if their registry can't be reached."""

from __future__ import annotations

__all__ = ["download_failure", "manifest_failure"]

# Nothing listens there.
_HOST = "http://127.0.0.1:9"


def download_failure(namespace: str, name: str, version: str) -> str:
    """Return the text of Pie 0.2."""
    return _failure("inferlet from registry", _url(f"{namespace}/{name}/{version}/download"))


def manifest_failure(name: str, version: str) -> str:
    """Return the text of Pie 0.3 and 0.4."""
    url = _url(f"{name}/{version}/manifest")
    return _failure(f"manifest from {url}", url)


def _failure(what: str, url: str) -> str:
    return f"Failed to download {what}: error sending request for url ({url})"


def _url(path: str) -> str:
    """Return the URL of a download. As in every URL, ``..`` removes the part before it."""
    parts: list[str] = []
    for part in f"api/v1/inferlets/{path}".split("/"):
        if part == "..":
            del parts[-1:]
        else:
            parts.append(part)
    return f"{_HOST}/{'/'.join(parts)}"
