"""ModelLoaderContract: what every plugin that loads models promises."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from mtcore.errors import ModelError
from mtcore.flow.loaded import LoadedModel
from mtcore.plugins import Registry
from mtcore.testing.compare import assert_same_bits, must_raise
from mtcore.trace import TraceInputs

QUICKLY = 1.0
"""Seconds within which a loader must know that a source is not its own."""


class ModelLoaderContract:
    """Override the fixtures `plugin` (the module with the hooks) and `source`; and `broken_sources`, sources that
    are the plugin's own and damaged, such as a truncated file."""

    @pytest.fixture
    def plugin(self) -> object:
        raise NotImplementedError("override the fixture `plugin`: the module with the hooks")

    @pytest.fixture
    def source(self) -> str:
        raise NotImplementedError("override the fixture `source`: what the plugin can load")

    @pytest.fixture
    def broken_sources(self) -> Sequence[str]:
        raise NotImplementedError("override the fixture `broken_sources`: damaged sources of the plugin's own")

    @pytest.fixture
    def registry(self, plugin: object) -> Registry:
        return Registry.load([plugin], discover=False, strict=True)

    @pytest.fixture
    def loaded(self, registry: Registry, source: str) -> LoadedModel:
        return registry.load_model(source)

    def test_the_model_is_in_eval_mode_and_has_values(self, loaded: LoadedModel) -> None:
        training = [name for name, module in loaded.model.named_modules() if module.training]
        assert not training, f"in training mode: {training[:3]}"
        meta = [name for name, tensor in loaded.model.state_dict().items() if tensor.is_meta]
        assert not meta, f"without values: {meta[:3]}"

    def test_the_source_and_the_loader_are_named(self, loaded: LoadedModel, source: str) -> None:
        assert loaded.source == source, f"LoadedModel.source is {loaded.source!r}, not {source!r}"
        assert loaded.loader, "nobody is named as the loader"

    def test_one_forward_runs(self, loaded: LoadedModel, registry: Registry) -> None:
        inputs = loaded.example_inputs or registry.example_inputs(loaded.model)
        assert inputs, "neither the loader nor mtcore_example_inputs gives inputs for the trace"
        given = TraceInputs.of(inputs)
        with torch.no_grad():
            loaded.model(*given.args, **given.kwargs)

    def test_two_loads_give_the_same_values(self, loaded: LoadedModel, registry: Registry, source: str) -> None:
        again = registry.load_model(source).model.state_dict()
        for name, tensor in loaded.model.state_dict().items():
            assert_same_bits(again[name], tensor, f"{name} of a second load")

    def test_the_tokenizer_gives_back_plain_text(self, loaded: LoadedModel) -> None:
        if loaded.tokenizer is None:
            return
        ids = loaded.tokenizer.encode("the quick brown fox")
        assert ids, "encode gives no ids"
        assert all(type(token) is int for token in ids), f"encode gives a {type(ids[0]).__name__}; int is wanted"
        assert loaded.tokenizer.bos_id is None or ids[0] != loaded.tokenizer.bos_id, (
            "encode adds no begin of sequence"
        )
        again = loaded.tokenizer.decode(ids).strip()
        assert again == "the quick brown fox", f"decode(encode('the quick brown fox')) gives {again!r}"

    def test_files_that_go_along_exist(self, loaded: LoadedModel) -> None:
        for name, path in loaded.files.files.items():
            assert path.is_file(), f"{name}: there is no file {path}"
            assert Path(name).name == name, f"{name!r} must be a plain file name"

    def test_a_source_of_somebody_else_is_left_to_others_quickly(self, registry: Registry) -> None:
        start = time.perf_counter()
        with must_raise(
            ModelError, "return None for what is not yours, and others are asked", "no plugin can load"
        ):
            registry.load_model("contract-scheme://nobody/knows/this")
        assert time.perf_counter() - start < QUICKLY, "return None before anything slow"

    def test_a_broken_source_is_a_clear_error(self, registry: Registry, broken_sources: Sequence[str]) -> None:
        for source in broken_sources:
            with must_raise(ModelError, f"{source} is damaged, and the error says so by name", Path(source).name):
                registry.load_model(source)
