"""transformers computes from a written checkpoint what our quantized model computes, on the embedded model."""

import pytest
import torch

import mtopt_tinylm
from mtcore.flow import DataOptions, export_model, load_checkpoint
from mtcore.flow.precision import widen_on_cpu
from mtcore.plugins import default_registry
from mtcore.quantization import quantize
from mtopt_hf.reload import check_reload, logits_of


@pytest.mark.parametrize("recipe", ["fp8", "fp8_row", "int8"])
def test_the_reloaded_logits_are_those_of_the_quantized_model(recipe, tmp_path):
    registry = default_registry()
    loaded = load_checkpoint(str(mtopt_tinylm.checkpoint_dir()))
    widen_on_cpu(loaded.model)
    data = DataOptions(samples=4, length=64)
    batches = registry.calibration_batches(str(mtopt_tinylm.calibration_file()), loaded, data)
    held_out = registry.calibration_batches(str(mtopt_tinylm.evaluation_file()), loaded, data)
    model = quantize(loaded.model, recipe, batches, inputs=loaded.example_inputs)
    reference = logits_of(model, held_out)
    export_model(model, tmp_path / "out", source=loaded.files)
    agreement = check_reload(tmp_path / "out", held_out, reference, torch.float32)
    assert agreement.same_argmax >= 0.999
    # Both compute in fp32 from the same codes and scales; only the order of a sum may differ.
    assert agreement.mean_difference <= 1e-5 * agreement.mean_logit
