"""Named tensors as calibration data: whole samples in batches, and what does not fit the forward is told."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mtcore.errors import CalibrationError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.loaded import LoadedModel
from mtopt_hf.data import calibration_batches


class Pixels(nn.Module):
    def forward(self, pixel_values, mask=None, use_cache=None, **kwargs):
        return pixel_values


@pytest.fixture
def loaded():
    switches = {"pixel_values": torch.zeros(1, 3, 4, 4), "use_cache": False}
    return LoadedModel(Pixels(), "pixels", example_inputs=switches, loader="hf")


def file(folder, **tensors):
    save_file(tensors, folder / "inputs.safetensors")
    return str(folder / "inputs.safetensors")


def test_each_tensor_becomes_an_argument_and_a_row_is_a_sample(loaded, tmp_path):
    pixels, mask = torch.randn(5, 3, 4, 4), torch.arange(5)[:, None]
    source = file(tmp_path, pixel_values=pixels, mask=mask)
    batches = calibration_batches(source, loaded, DataOptions(samples=5, batch_size=2))
    assert [len(batch["mask"]) for batch in batches] == [2, 2, 1]
    assert torch.equal(torch.cat([batch["pixel_values"] for batch in batches]), pixels)
    assert all(batch["use_cache"] is False for batch in batches)
    drawn = calibration_batches(source, loaded, DataOptions(samples=5, batch_size=5, seed=1))
    assert drawn[0]["mask"].flatten().tolist() != list(range(5))
    assert sorted(drawn[0]["mask"].flatten().tolist()) == list(range(5))


@pytest.mark.parametrize(
    ("tensors", "why"),
    [
        (
            {"pixel": torch.zeros(2, 1)},
            r"has no argument 'pixel', but pixel_values, mask, use_cache; .*--text-",
        ),
        ({"pixel_values": torch.zeros(1, 1)}, "holds 1 samples, but 2 were asked for; say --samples 1"),
        ({"pixel_values": torch.zeros(2), "mask": torch.zeros(3)}, "first axis .* samples, but they have"),
    ],
)
def test_tensors_that_do_not_fit_are_told(loaded, tmp_path, tensors, why):
    with pytest.raises(CalibrationError, match=why):
        calibration_batches(file(tmp_path, **tensors), loaded, DataOptions(samples=2))


def test_a_named_field_or_ids_alone_are_rows_of_token_ids(loaded, tmp_path):
    ids = torch.arange(8).view(2, 4)
    for tensors, field in (({"tokens": ids}, "tokens"), ({"input_ids": ids}, None)):
        source = file(tmp_path, **tensors)
        (batch,) = calibration_batches(source, loaded, DataOptions(samples=2, length=4, field=field))
        assert torch.equal(batch["input_ids"], ids)


def test_a_model_without_a_tokenizer_is_told_of_tensors(loaded, text_file):
    with pytest.raises(CalibrationError, match="safetensors file whose tensors bear the names"):
        calibration_batches(str(text_file), replace(loaded, tokenizer=None), DataOptions(samples=1, length=4))
