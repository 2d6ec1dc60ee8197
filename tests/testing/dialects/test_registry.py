"""The texts about programs that the registry does not have; test_recorded.py plays more of them."""

from __future__ import annotations

import pytest

from pie_sync.testing._dialects.registry import download_failure, manifest_failure


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (("std", "kit", "latest"), "/api/v1/inferlets/std/kit/latest/download"),
        (("std", "", ""), "/api/v1/inferlets/std///download"),
        (("..", "../x", "latest"), "/api/x/latest/download"),
        (("..", "../../../../x", "1"), "/x/1/download"),
    ],
)
def test_the_url_of_a_download(name: tuple[str, str, str], path: str) -> None:
    url = f"http://127.0.0.1:9{path}"
    text = f"Failed to download inferlet from registry: error sending request for url ({url})"
    assert download_failure(*name) == text


def test_the_url_of_a_manifest() -> None:
    url = "http://127.0.0.1:9/api/v1/inferlets/nope/1.0.0/manifest"
    assert manifest_failure("nope", "1.0.0") == (
        f"Failed to download manifest from {url}: error sending request for url ({url})"
    )
