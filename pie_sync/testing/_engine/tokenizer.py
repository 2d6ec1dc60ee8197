"""A tokenizer for random weights: each id of the model's vocabulary is a text that one can read.

The format is that of ``tokenizer.json`` (Hugging Face), as byte-level BPE in Qwen's form.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["END_OF_TURN", "SPECIAL_TOKENS", "tokenizer"]

END_OF_TURN = "<|im_end|>"
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", END_OF_TURN, "<think>", "</think>")

#: The server refuses a tokenizer whose pre-tokenizer is not this very expression of Qwen2.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_SYLLABLES = [consonant + vowel for consonant in "bcdfghjklmnpqrstvwxz" for vowel in "aeiou"]

#: Words of three syllables come in steps of this prime, so that neighbours don't begin alike.
_STRIDE = 611_953


def tokenizer(size: int) -> dict[str, object]:
    """Return the content of ``tokenizer.json`` for a vocabulary of ``size`` ids.

    The vocabulary has the special tokens, the 256 bytes, then syllables such as ``ka`` and words of one to three
    syllables with a space before them, such as `` kavumo``. The merges lead to every word, so a text of such words
    is encoded as it was decoded. Any other text is encoded in syllables and bytes.
    """
    vocabulary = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *_byte_letters()])}
    merges: list[list[str]] = []
    for left, right in _pairs(size - len(vocabulary)):
        vocabulary[left + right] = len(vocabulary)
        merges.append([left, right])
    assert len(vocabulary) == size
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(number, token) for number, token in enumerate(SPECIAL_TOKENS)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _QWEN2_WORDS}, "behavior": "Isolated", "invert": False},
                _byte_level(add_prefix_space=False, trim_offsets=True, use_regex=False),
            ],
        },
        "post_processor": _byte_level(add_prefix_space=True, trim_offsets=False, use_regex=True),
        "decoder": _byte_level(add_prefix_space=True, trim_offsets=True, use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def _byte_letters() -> list[str]:
    """Return the letter that stands for each byte in byte-level BPE (GPT-2): printable ones for themselves."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable}
    letters.update((byte, chr(0x100 + number)) for number, byte in enumerate(others))
    return [letters[byte] for byte in range(0x100)]


def _pairs(count: int) -> Iterator[tuple[str, str]]:
    """Yield the first ``count`` pairs to merge, in the order of their priority."""
    space, base = _byte_letters()[0x20], len(_SYLLABLES)
    for number in range(count):
        if number < base:
            yield _SYLLABLES[number][0], _SYLLABLES[number][1]
        elif number < 2 * base:
            yield space, _SYLLABLES[number - base]
        elif number < 2 * base + base**2:
            first, second = divmod(number - 2 * base, base)
            yield space + _SYLLABLES[first], _SYLLABLES[second]
        else:
            rest, third = divmod((number - 2 * base - base**2) * _STRIDE % base**3, base)
            first, second = divmod(rest, base)
            yield space + _SYLLABLES[first] + _SYLLABLES[second], _SYLLABLES[third]


def _byte_level(*, add_prefix_space: bool, trim_offsets: bool, use_regex: bool) -> dict[str, object]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": trim_offsets,
        "use_regex": use_regex,
    }


def _added_token(number: int, content: str) -> dict[str, object]:
    return {
        "id": number,
        "content": content,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
