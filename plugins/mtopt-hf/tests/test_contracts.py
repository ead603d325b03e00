"""The plugin keeps the contracts of mtcore: its loader. Exporters have their tests beside them."""

import pytest

import mtopt_hf.hooks
from mtcore.testing import ModelLoaderContract


class TestLoader(ModelLoaderContract):
    @pytest.fixture
    def plugin(self):
        return mtopt_hf.hooks

    @pytest.fixture
    def source(self, llama_checkpoint):
        return str(llama_checkpoint)

    @pytest.fixture
    def broken_sources(self, llama_copy):
        weights = llama_copy / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-100])
        return [str(llama_copy)]
