from __future__ import annotations

from typing import Any

import pytest

from pie_sync.testing._engine.tokenizer import SPECIAL_TOKENS, tokenizer

SIZE = 248_320
LETTERS = 256


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    content: Any = tokenizer(SIZE)["model"]
    return dict(content)


def encode(model: dict[str, Any], word: str) -> list[int]:
    """Merge as byte-level BPE does: always the pair of the highest priority."""
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    parts = list(word)
    while True:
        pairs = [(ranks[pair], at) for at, pair in enumerate(zip(parts, parts[1:])) if pair in ranks]
        if not pairs:
            return [model["vocab"][part] for part in parts]
        _, at = min(pairs)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def test_each_id_has_a_text_of_its_own(model: dict[str, Any]) -> None:
    assert sorted(model["vocab"].values()) == list(range(SIZE))


def test_the_special_tokens_come_first_and_then_the_bytes(model: dict[str, Any]) -> None:
    tokens = list(model["vocab"])
    assert tuple(tokens[: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS
    bytes_ = tokens[len(SPECIAL_TOKENS) :][:LETTERS]
    assert all(len(letter) == 1 and letter.isprintable() for letter in bytes_)
    assert (bytes_[ord("A")], bytes_[ord("~")], bytes_[0xFF], bytes_[0x20]) == ("A", "~", "ÿ", "Ġ")


@pytest.mark.parametrize("number", [300, 461, 10_460, 10_461, 100_000, SIZE - 1])
def test_a_word_is_encoded_as_it_was_decoded(model: dict[str, Any], number: int) -> None:
    word = list(model["vocab"])[number]
    assert encode(model, word) == [number]


def test_any_other_text_is_encoded_in_syllables_and_bytes(model: dict[str, Any]) -> None:
    tokens = list(model["vocab"])
    assert [tokens[number] for number in encode(model, "Hello")] == ["H", "e", "l", "lo"]


def test_neighbours_do_not_begin_alike(model: dict[str, Any]) -> None:
    tokens = list(model["vocab"])
    assert len({token[:3] for token in tokens[20_000:20_040]}) > 30
