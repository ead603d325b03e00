"""GGUF files: their header read and checked, their tokenizer rebuilt, their weights loaded in fp32."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM

from mtcore.errors import ModelError
from mtopt_hf.load import load_model
from mtopt_hf.load.gguf_header import read_header
from mtopt_hf.load.gguf_tokenizer import merges_of, rebuild_tokenizer

SPACE = "▁"
WORDS = ["a", "b", "c", SPACE, "ab", f"{SPACE}a", f"{SPACE}ab", "abc", f"{SPACE}abc", "  "]
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>"]
BYTES = [f"<0x{number:02X}>" for number in range(256)]
TOKENS = SPECIAL + BYTES + WORDS
SCORES = [-1000.0] * 260 + [-float(rank) for rank in range(len(WORDS))]
TYPES = [3] * 4 + [6] * 256 + [1] * (len(WORDS) - 1) + [4]
USER_DEFINED = len(TOKENS) - 1


def vocabulary_header(*, prefix: bool = False) -> dict[str, object]:
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.scores": SCORES,
        "tokenizer.ggml.token_type": TYPES,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.unknown_token_id": 3,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_space_prefix": prefix,
    }


@pytest.fixture(scope="module")
def gguf_file(tiny_llama: LlamaForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama as a GGUF file, fp32, with a SentencePiece vocabulary; rows of q and k as they are."""
    config = tiny_llama.config
    file = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores(SCORES)
    writer.add_token_types(TYPES)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_space_prefix(False)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in tiny_llama.state_dict().items():
        writer.add_tensor(names.get_name(name, (".weight",)), tensor.numpy().astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def test_header_equals_what_the_gguf_library_reads(gguf_file: Path) -> None:
    header = read_header(gguf_file)
    reader = gguf.GGUFReader(gguf_file)
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert header.values == theirs
    assert header.tensors == {tensor.name: tuple(tensor.shape.tolist()) for tensor in reader.tensors}


def test_model_comes_in_fp32_with_config_tokenizer_and_texts(
    gguf_file: Path, tiny_llama: LlamaForCausalLM, tmp_path: Path
) -> None:
    loaded = load_model(str(gguf_file))
    assert loaded is not None
    state = loaded.model.state_dict()
    for name in ("model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "lm_head.weight"):
        assert torch.equal(state[name], tiny_llama.state_dict()[name])
    assert loaded.quantized_as is None
    assert loaded.files.config["architectures"] == ["LlamaForCausalLM"]
    assert not loaded.files.config.keys() & {"quantization_config", "_model_name_or_path"}
    assert loaded.model(**loaded.example_inputs).logits.isfinite().all()
    assert loaded.tokenizer is not None
    for name, text in loaded.files.texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode("abc ab", add_special_tokens=False) == loaded.tokenizer.encode("abc ab")
    loaded.model.save_pretrained(tmp_path / "saved")  # transformers refuses this for what it takes for GGUF


@pytest.mark.parametrize("kept", [2, 20, 60, 3000, -5])
def test_truncated_file_is_found_before_loading(gguf_file: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "t.gguf").write_bytes(gguf_file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="cut short"):
        load_model(str(tmp_path / "t.gguf"))


@pytest.mark.parametrize("content", [b"GGUF" + b"\xff" * 40, b"not a gguf file at all, but long enough to be one"])
def test_garbage_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "g.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"not a readable GGUF file"):
        load_model(str(tmp_path / "g.gguf"))


def test_architecture_that_transformers_does_not_know_is_an_error_of_that_file(
    gguf_file: Path, tmp_path: Path
) -> None:
    content = gguf_file.read_bytes()
    assert content.count(b"llama.block_count") == 1
    known = b"general.architecture" + bytes([8, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0])
    assert known + b"llama" in content
    (tmp_path / "zebra.gguf").write_bytes(content.replace(known + b"llama", known + b"zebra"))
    with pytest.raises(ModelError, match=r"zebra\.gguf: transformers cannot load it: .*zebra"):
        load_model(str(tmp_path / "zebra.gguf"))


def test_bytes_changed_anywhere_in_the_header_raise_no_other_error(gguf_file: Path, tmp_path: Path) -> None:
    content = gguf_file.read_bytes()
    generator = torch.Generator().manual_seed(0)
    file = tmp_path / "mutant.gguf"
    refused = 0
    for place in torch.randint(0, 2000, (100,), generator=generator).tolist():
        mutant = bytearray(content)
        mutant[place] ^= 0xFF
        file.write_bytes(mutant)
        try:
            read_header(file)
        except ModelError:
            refused += 1
    assert refused > 10


def test_file_that_does_not_exist_is_named() -> None:
    with pytest.raises(ModelError, match=r"nothing\.gguf: no such file"):
        load_model("nothing.gguf")


def test_rebuilt_tokenizer_merges_by_score_and_begins_a_sequence() -> None:
    tokenizer = rebuild_tokenizer(vocabulary_header())
    assert tokenizer.convert_ids_to_tokens(tokenizer("abc ab").input_ids) == ["<s>", "abc", f"{SPACE}ab"]
    ids = tokenizer.encode("ab  ü", add_special_tokens=False)
    assert ids == [TOKENS.index("ab"), USER_DEFINED, TOKENS.index("<0xC3>"), TOKENS.index("<0xBC>")]
    assert tokenizer.decode(ids) == "ab  ü"


def test_space_prefix_is_added_and_taken_off_where_the_file_says_so() -> None:
    tokenizer = rebuild_tokenizer(vocabulary_header(prefix=True))
    ids = tokenizer.encode("ab a", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(ids) == [f"{SPACE}ab", f"{SPACE}a"]
    assert tokenizer.decode(ids) == "ab a"


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ModelError, match="does not fit together"):
        rebuild_tokenizer(vocabulary_header() | {"tokenizer.ggml.scores": [0.0]})


def test_merges_leave_out_tokens_that_text_never_builds() -> None:
    assert merges_of(["a", "b", "ab", "ba"], [0.0, 0.0, -2.0, -1.0], [1, 1, 1, 3]) == [("a", "b")]
