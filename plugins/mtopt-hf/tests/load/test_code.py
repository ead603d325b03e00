"""Checkpoints that bring code of their own: it runs only where the user says so."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mtcore.errors import ModelError
from mtcore.flow import load_checkpoint, quantize_checkpoint

CODE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class OwnConfig(PretrainedConfig):
    model_type = "own-of-this-test"


class OwnModel(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(64, 32)
        self.up = torch.nn.Linear(32, 64)
        self.lm_head = torch.nn.Linear(64, 64)
        self.post_init()

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids, **kwargs):
        return CausalLMOutput(logits=self.lm_head(torch.relu(self.up(self.embed(input_ids)))))
"""
RECIPE = {
    "rules": [
        {"weight": "fp8_row", "input": {"format": "fp8_row", "mode": "dynamic"}}, {"include": "base_exclusions"}
    ],
    "algorithm": "max",
}  # fmt: skip


@pytest.fixture
def own(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own_model.py").write_text(CODE)
    config = {
        "model_type": "own-of-this-test",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "own_model.OwnConfig", "AutoModelForCausalLM": "own_model.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    generator = torch.Generator().manual_seed(0)
    sizes = {"embed.weight": (64, 32), "up.weight": (64, 32), "up.bias": (64,), "lm_head.weight": (64, 64)}
    tensors = {name: torch.randn(size, generator=generator) for name, size in sizes.items()}
    save_file({**tensors, "lm_head.bias": torch.zeros(64)}, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_without_a_word_it_does_not_run_and_the_error_says_which_word(own):
    with pytest.raises(ModelError, match=f"with-code:{own}"):
        load_checkpoint(str(own))


def test_with_code_it_runs_and_the_files_go_with_the_result(own, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    loaded = load_checkpoint(f"with-code:{own}")
    assert type(loaded.model).__name__ == "OwnModel"
    summary = quantize_checkpoint(f"with-code:{own}", RECIPE, tmp_path / "out")
    assert [module.name for module in summary.plan.quantized] == ["up"]
    assert (tmp_path / "out" / "own_model.py").read_text() == CODE


TOKENIZER = """
from transformers import PreTrainedTokenizerFast


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def test_code_of_a_tokenizer_runs_only_where_the_user_says_so(llama_copy, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    (llama_copy / "own_tokenizer.py").write_text(TOKENIZER)
    settings = json.loads((llama_copy / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "OwnTokenizer"
    settings["auto_map"] = {"AutoTokenizer": [None, "own_tokenizer.OwnTokenizer"]}
    (llama_copy / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=f"tokenizer is defined by code .* say with-code:{llama_copy}"):
        load_checkpoint(str(llama_copy))
    loaded = load_checkpoint(f"with-code:{llama_copy}")
    assert type(loaded.tokenizer.wrapped).__name__ == "OwnTokenizer"


@pytest.mark.parametrize("code", [False, True])
def test_python_files_are_fetched_from_the_hub_only_where_the_user_says_so(own, monkeypatch, tmp_path, code):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    asked = []

    def fetch(name, allow_patterns):
        asked.extend(allow_patterns)
        return str(own)

    monkeypatch.setattr("mtopt_hf.load.hub.snapshot_download", fetch)
    if code:
        load_checkpoint("with-code:acme/own")
    else:
        with pytest.raises(ModelError, match="defined by code in the checkpoint, which is not run"):
            load_checkpoint("acme/own")
    assert ("*.py" in asked) is code
    assert not any(pattern.endswith((".bin", ".pt", "*")) for pattern in asked)


def test_with_code_goes_before_a_directory_or_a_name_only(own):
    with pytest.raises(ModelError, match="goes before a directory or a name on the hub"):
        load_checkpoint(f"with-code:config:{own}")
