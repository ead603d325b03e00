"""The loader keeps its contract, and its data are of the size that was asked for."""

import pytest

import mtopt_template.hooks
from mtcore.flow import DataOptions
from mtcore.plugins import Registry
from mtcore.testing import ModelLoaderContract


class TestLoader(ModelLoaderContract):
    @pytest.fixture
    def plugin(self):
        return mtopt_template.hooks

    @pytest.fixture
    def source(self):
        return "template:16"

    @pytest.fixture
    def broken_sources(self):
        return ["template:wide", "template:0"]


def test_batches_have_the_size_that_was_asked_for():
    registry = Registry.load([mtopt_template.hooks], discover=False, strict=True)
    loaded = registry.load_model("template:16")
    batches = registry.calibration_batches("template-noise", loaded, DataOptions(samples=6, batch_size=2))
    assert [batch["x"].shape for batch in batches] == [(2, 16)] * 3
