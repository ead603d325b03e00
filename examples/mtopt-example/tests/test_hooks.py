"""The plugin as a whole: its recipe quantizes a model of the made-up library, and the dialect writes it."""

import json

import torch

import mtcore
from mtcore.flow import export_model
from mtcore.plugins import Registry
from mtopt_example import hooks
from mtopt_example.madeup import Mlp


def test_the_recipe_quantizes_the_made_up_model_and_the_dialect_writes_it(tmp_path):
    registry = Registry.load([hooks], discover=False, strict=True)
    model, batches = Mlp(32, 64, 10), [torch.randn(16, 32) for _ in range(2)]
    before = model(batches[0])
    model = mtcore.quantize(model, "fp5", batches, registry=registry)
    assert type(model.up).__name__ == "QuantProjection"
    assert model.up.weight_quantizer.kernel.kernel.name == "example.fake_quantize"
    assert not torch.equal(model(batches[0]), before)
    exported = export_model(model, tmp_path / "out", dialect="plain", registry=registry)
    assert sorted(exported.files) == ["config.json", "model.safetensors"]
    spelt = json.loads((tmp_path / "out" / "config.json").read_text())["plain"]
    assert spelt["up"] == {"input": "I8", "weight": "FP5"}
    mtcore.undo(model)
    assert torch.equal(model(batches[0]), before)
