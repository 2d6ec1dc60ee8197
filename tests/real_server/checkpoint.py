"""Makes the checkpoint that the real server loads: a tiny model with random weights.

A program, ``checkpoint.py FOLDER``, run with the interpreter of the server's environment: it needs numpy and
tokenizers. The shapes are those of the server's built-in SKU ``qwen35-tiny-u4g64-kv-bf16``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HIDDEN = 256
INTERMEDIATE = 512
LAYERS = 4
VOCABULARY = 248_320
GROUP = 64
PREFIX = "model.language_model."
SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]

# The server refuses a tokenizer whose pre-tokenizer is not this very expression of Qwen2.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Tensor(NamedTuple):
    """One entry of a safetensors file."""

    dtype: str
    data: np.ndarray[Any, Any]


def bfloat16(values: np.ndarray[Any, Any]) -> Tensor:
    """Cuts 32-bit floats to their upper half."""
    return Tensor("BF16", (values.astype("<f4").view("<u4") >> 16).astype("<u2"))


class Weights:
    """The tensors of a model, by name, filled from one seeded generator."""

    def __init__(self, seed: int) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._random = np.random.default_rng(seed)

    def ones(self, name: str, *shape: int) -> None:
        """Adds a norm's weights."""
        self.tensors[PREFIX + name] = bfloat16(np.ones(shape))

    def noise(self, name: str, *shape: int) -> None:
        """Adds small random weights."""
        self.tensors[PREFIX + name] = bfloat16(self._random.normal(0, 0.02, shape))

    def quantized(self, name: str, rows: int, columns: int) -> None:
        """Adds a 4-bit matrix: codes, and a scale and a bias for each group of columns."""
        words = self._random.integers(0, 2**32, (rows, columns // 8), dtype="<u4")
        groups = (rows, columns // GROUP)
        self.tensors[f"{PREFIX}{name}.weight"] = Tensor("U32", words)
        self.tensors[f"{PREFIX}{name}.scales"] = bfloat16(np.full(groups, 0.005))
        self.tensors[f"{PREFIX}{name}.biases"] = bfloat16(np.full(groups, -7.5 * 0.005))

    def write(self, path: Path) -> None:
        """Writes a safetensors file: the length of a JSON header, the header, the data."""
        header: dict[str, Any] = {}
        offset = 0
        for name, tensor in self.tensors.items():
            end = offset + tensor.data.nbytes
            header[name] = {
                "dtype": tensor.dtype,
                "shape": list(tensor.data.shape),
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for tensor in self.tensors.values():
                file.write(tensor.data.tobytes())


def random_model() -> Weights:
    """Every tensor of the model: three layers of linear attention, then one of full attention."""
    weights = Weights(seed=0)
    weights.quantized("embed_tokens", VOCABULARY, HIDDEN)
    weights.ones("norm.weight", HIDDEN)
    for number in range(LAYERS):
        layer = f"layers.{number}."
        weights.ones(layer + "input_layernorm.weight", HIDDEN)
        weights.ones(layer + "post_attention_layernorm.weight", HIDDEN)
        weights.quantized(layer + "mlp.gate_proj", INTERMEDIATE, HIDDEN)
        weights.quantized(layer + "mlp.up_proj", INTERMEDIATE, HIDDEN)
        weights.quantized(layer + "mlp.down_proj", HIDDEN, INTERMEDIATE)
        if number < LAYERS - 1:
            add_linear_attention(weights, layer + "linear_attn.")
        else:
            add_full_attention(weights, layer + "self_attn.")
    return weights


def add_linear_attention(weights: Weights, prefix: str) -> None:
    """Adds the tensors of a gated delta-net."""
    weights.quantized(prefix + "in_proj_qkv", 2048, HIDDEN)
    weights.quantized(prefix + "in_proj_z", 1024, HIDDEN)
    weights.quantized(prefix + "in_proj_b", 8, HIDDEN)
    weights.quantized(prefix + "in_proj_a", 8, HIDDEN)
    weights.noise(prefix + "conv1d.weight", 2048, 1, 4)
    weights.noise(prefix + "dt_bias", 8)
    weights.noise(prefix + "A_log", 8)
    weights.ones(prefix + "norm.weight", 128)
    weights.quantized(prefix + "out_proj", HIDDEN, 1024)


def add_full_attention(weights: Weights, prefix: str) -> None:
    """Adds the tensors of a self-attention with query and key norms."""
    weights.quantized(prefix + "q_proj", 512, HIDDEN)
    weights.quantized(prefix + "k_proj", 128, HIDDEN)
    weights.quantized(prefix + "v_proj", 128, HIDDEN)
    weights.quantized(prefix + "o_proj", HIDDEN, 256)
    weights.ones(prefix + "q_norm.weight", 64)
    weights.ones(prefix + "k_norm.weight", 64)


def small_tokenizer() -> Tokenizer:
    """A byte-level BPE in Qwen's form that knows one sentence."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["A blocking client drives a real server, one message at a time."], trainer)
    return tokenizer


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes one of the small files beside the weights."""
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def write_checkpoint(folder: Path) -> None:
    """Writes the five files that the server looks for."""
    random_model().write(folder / "model.safetensors")
    tokenizer = small_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|im_end|>")
    write_json(
        folder / "config.json",
        {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 64,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1_000_000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "vocab_size": VOCABULARY,
            "eos_token_id": end,
            "quantization": {"group_size": GROUP, "bits": 4},
        },
    )
    write_json(folder / "generation_config.json", {"eos_token_id": [end], "do_sample": False})
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "chat_template": CHAT_TEMPLATE,
        },
    )


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]))
