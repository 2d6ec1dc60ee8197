"""Writes a checkpoint that the engine loads: a tiny model with random weights.

The shapes are those of the engine's built-in SKU ``qwen35-tiny-u4g64-kv-bf16``, a hybrid of linear and full
attention. Everything is made by the standard library from one seed, so it is the same on every machine.
"""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import NamedTuple

from .tokenizer import END_OF_TURN, SPECIAL_TOKENS, tokenizer

__all__ = ["SKU", "VERSION", "write_checkpoint"]

SKU = "qwen35-tiny-u4g64-kv-bf16"

#: Counts up with every change to what is written, for checkpoints are kept from one release to the next.
VERSION = 2

_HIDDEN = 256
_INTERMEDIATE = 512
_LAYERS = 4
_VOCABULARY = 248_320
_GROUP = 64
_PREFIX = "model.language_model."
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_checkpoint(folder: Path) -> None:
    """Write the five files that the engine looks for, 50 MB, into an existing folder. Takes about a second."""
    _random_model().write(folder / "model.safetensors")
    end = SPECIAL_TOKENS.index(END_OF_TURN)
    contents = {
        "tokenizer": tokenizer(_VOCABULARY),
        "config": _configuration(end),
        "generation_config": {"eos_token_id": [end], "do_sample": False},
        "tokenizer_config": {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": END_OF_TURN,
            "pad_token": SPECIAL_TOKENS[0],
            "chat_template": _CHAT_TEMPLATE,
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _configuration(end: int) -> dict[str, object]:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INTERMEDIATE,
        "num_hidden_layers": _LAYERS,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1_000_000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "vocab_size": _VOCABULARY,
        "eos_token_id": end,
        "quantization": {"group_size": _GROUP, "bits": 4},
    }


class _Tensor(NamedTuple):
    """One entry of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def _bfloat16(value: float) -> bytes:
    """Return the upper half of a 32-bit float."""
    return struct.pack("<f", value)[2:]


class _Weights:
    """The tensors of a model, by name, filled from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self._tensors: dict[str, _Tensor] = {}
        self._random = random.Random(seed)  # noqa: S311 - weights are no secrets

    def constant(self, name: str, shape: tuple[int, ...], value: float = 1.0) -> None:
        """Add a tensor of equal numbers, such as a norm's weights."""
        self._tensors[_PREFIX + name] = _Tensor("BF16", shape, _bfloat16(value) * math.prod(shape))

    def noise(self, name: str, *shape: int) -> None:
        """Add small random weights."""
        numbers = (self._random.uniform(-0.035, 0.035) for _ in range(math.prod(shape)))
        data = b"".join(map(_bfloat16, numbers))
        self._tensors[_PREFIX + name] = _Tensor("BF16", shape, data)

    def quantized(self, name: str, rows: int, columns: int) -> None:
        """Add a 4-bit matrix: random codes, and a scale and a bias for each group of columns."""
        codes = self._random.randbytes(rows * columns // 2)
        self._tensors[f"{_PREFIX}{name}.weight"] = _Tensor("U32", (rows, columns // 8), codes)
        groups = (rows, columns // _GROUP)
        self.constant(f"{name}.scales", groups, 0.005)
        self.constant(f"{name}.biases", groups, -7.5 * 0.005)

    def write(self, path: Path) -> None:
        """Write a safetensors file: the length of a JSON header, the header, the data."""
        header: dict[str, object] = {}
        offset = 0
        for name, tensor in self._tensors.items():
            end = offset + len(tensor.data)
            header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in self._tensors.values():
                file.write(tensor.data)


def _random_model() -> _Weights:
    """Return every tensor of the model: three layers of linear attention, then one of full attention."""
    weights = _Weights(seed=0)
    weights.quantized("embed_tokens", _VOCABULARY, _HIDDEN)
    weights.constant("norm.weight", (_HIDDEN,))
    for number in range(_LAYERS):
        layer = f"layers.{number}."
        weights.constant(layer + "input_layernorm.weight", (_HIDDEN,))
        weights.constant(layer + "post_attention_layernorm.weight", (_HIDDEN,))
        weights.quantized(layer + "mlp.gate_proj", _INTERMEDIATE, _HIDDEN)
        weights.quantized(layer + "mlp.up_proj", _INTERMEDIATE, _HIDDEN)
        weights.quantized(layer + "mlp.down_proj", _HIDDEN, _INTERMEDIATE)
        if number < _LAYERS - 1:
            _add_linear_attention(weights, layer + "linear_attn.")
        else:
            _add_full_attention(weights, layer + "self_attn.")
    return weights


def _add_linear_attention(weights: _Weights, prefix: str) -> None:
    """Add the tensors of a gated delta-net."""
    weights.quantized(prefix + "in_proj_qkv", 2048, _HIDDEN)
    weights.quantized(prefix + "in_proj_z", 1024, _HIDDEN)
    weights.quantized(prefix + "in_proj_b", 8, _HIDDEN)
    weights.quantized(prefix + "in_proj_a", 8, _HIDDEN)
    weights.noise(prefix + "conv1d.weight", 2048, 1, 4)
    weights.noise(prefix + "dt_bias", 8)
    weights.noise(prefix + "A_log", 8)
    weights.constant(prefix + "norm.weight", (128,))
    weights.quantized(prefix + "out_proj", _HIDDEN, 1024)


def _add_full_attention(weights: _Weights, prefix: str) -> None:
    """Add the tensors of a self-attention with query and key norms."""
    weights.quantized(prefix + "q_proj", 512, _HIDDEN)
    weights.quantized(prefix + "k_proj", 128, _HIDDEN)
    weights.quantized(prefix + "v_proj", 128, _HIDDEN)
    weights.quantized(prefix + "o_proj", _HIDDEN, 256)
    weights.constant(prefix + "q_norm.weight", (64,))
    weights.constant(prefix + "k_norm.weight", (64,))
