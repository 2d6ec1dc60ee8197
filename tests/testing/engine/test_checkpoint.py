from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pie_sync.testing._engine.checkpoint import VERSION, write_checkpoint

#: If this changes, VERSION has to change as well: checkpoints are kept from one release to the next.
DIGESTS = {
    2: {
        "config.json": "08e15c52fc32a641",
        "generation_config.json": "256c4fad21efc2a4",
        "model.safetensors": "e4f1a9bc7811a71c",
        "tokenizer.json": "a6620a9b2358fd83",
        "tokenizer_config.json": "84d2751b212a80f9",
    }
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint")
    write_checkpoint(path)
    return path


def test_every_machine_writes_the_same_for_a_version(folder: Path) -> None:
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for path in folder.iterdir()}
    assert digests == DIGESTS[VERSION]


def test_the_tensors_fill_the_file_without_gaps(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    width = {"BF16": 2, "U32": 4}
    end = 0
    for name, tensor in header.items():
        assert name.startswith("model.language_model.")
        begin, after = tensor["data_offsets"]
        count = 1
        for dimension in tensor["shape"]:
            count *= dimension
        assert (begin, after - begin) == (end, count * width[tensor["dtype"]]), name
        end = after
    assert len(content) == 8 + size + end
    assert header["model.language_model.embed_tokens.weight"]["shape"] == [248_320, 32]


def test_the_vocabulary_is_the_tokenizers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert len(vocabulary) == config["vocab_size"]
    assert vocabulary["<|im_end|>"] == config["eos_token_id"]
