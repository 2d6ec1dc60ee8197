from __future__ import annotations

import pytest

from pie_sync._support.toml import parse_toml


def test_what_it_says():
    assert parse_toml('[package]\nname = "hello"\nsize = 3\n') == {"package": {"name": "hello", "size": 3}}


def test_no_toml_is_an_error_that_says_where():
    with pytest.raises(ValueError, match="line 2"):
        parse_toml("a = 1\nb =\n")
