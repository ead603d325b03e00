"""What a run cannot do for starved experts is refused before it; more data are those that were not used yet."""

import pytest
import torch

from mtcore.errors import CalibrationError
from mtcore.flow import DataOptions, LayerwiseOptions, quantize_checkpoint
from mtcore.flow.experts import check_experts, more_batches
from mtcore.flow.loaded import LoadedModel
from mtcore.hookspecs import hookimpl
from mtcore.plugins import Registry
from mtcore.recipe.setting import ExpertsSetting
from mtcore.testing.toy_blocks import SOURCE, ToyBlocksPlugin, ToyShape, write_toy_blocks

PLAIN = {"layerwise": False, "kept": False, "processes": False, "source": True}


@pytest.mark.parametrize(
    ("how", "changed", "reason"),
    [
        ("all_experts", {"kept": True}, "leave out --statistics"),
        ("more_samples", {"kept": True}, "leave out --statistics"),
        ("more_samples", {"layerwise": True}, "block by block fixes its data"),
        ("more_samples", {"processes": True}, "processes under torchrun share the given samples"),
        ("more_samples", {"source": False}, "batches in memory have no more"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(how, changed, reason):
    setting = ExpertsSetting(8, how, origin="experts of mine.yaml, line 3")
    with pytest.raises(CalibrationError, match=rf"{how} \(experts of mine.yaml, line 3\), but .*{reason}"):
        check_experts(setting, **{**PLAIN, **changed})


@pytest.mark.parametrize("changed", [{}, {"layerwise": True}, {"processes": True}, {"source": False}])
def test_all_experts_needs_no_other_data(changed):
    check_experts(ExpertsSetting(0, "all_experts"), **{**PLAIN, **changed})


@pytest.mark.parametrize("changed", [{"kept": True}, {"layerwise": True}, {"processes": True}])
def test_a_report_is_always_possible(changed):
    check_experts(ExpertsSetting(8), **{**PLAIN, **changed})


def test_the_run_refuses_before_anything_is_loaded(tmp_path):
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    recipe = {"rules": [{"weight": "fp8"}], "experts": {"when_starved": "more_samples"}}
    with pytest.raises(CalibrationError, match="block by block fixes its data"):
        quantize_checkpoint(
            "nothing there",
            recipe,
            tmp_path / "out",
            calib="some",
            dialect="toy",
            registry=registry,
            layerwise=LayerwiseOptions(),
        )


class Numbers:
    """A source of `held` batches, 0, 1, 2, …"""

    def __init__(self, held: int) -> None:
        self.held = held

    @hookimpl(tryfirst=True)
    def mtcore_calibration_batches(self, source, loaded, options):
        if options.samples > self.held:
            raise CalibrationError(f"{source}: {self.held} samples, not {options.samples}")
        return [torch.tensor([n]) for n in range(options.samples)]


@pytest.mark.parametrize(("held", "more"), [(100, 28), (17, 12), (6, 2), (4, 0)])
def test_more_batches_are_those_of_the_source_that_were_not_used(held, more):
    registry = Registry.load([Numbers(held)], discover=False)
    loaded = LoadedModel(torch.nn.Identity(), "x")
    known = [torch.tensor([n]) for n in range(4)]
    found = more_batches("numbers", loaded, DataOptions(samples=4), known, registry)
    assert [int(batch) for batch in found] == list(range(4, 4 + more))


def test_a_whole_run_looks_for_more_data_only_where_experts_are_starved(tmp_path):
    """No expert is there to starve: the run is that of the given samples."""
    toy = write_toy_blocks(tmp_path / "toy", ToyShape(layers=2))
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    recipe = {
        "rules": [{"weight": "fp8", "input": "fp8"}],
        "experts": {"when_starved": "more_samples", "min_tokens": 4},
    }
    data = DataOptions(samples=4, length=16, batch_size=2)
    summary = quantize_checkpoint(
        f"{SOURCE}{toy}", recipe, tmp_path / "out", calib="some", dialect="toy", data=data, registry=registry
    )
    assert summary.calibration.starved == ()
