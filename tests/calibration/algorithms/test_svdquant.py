"""`svdquant` keeps the strongest directions in 16 bits, says what that costs, and loses less where they are few."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

import mtcore
from mtcore.calibration.algorithms.svdquant import SVDQUANT, SvdQuantOptions
from mtcore.errors import CalibrationError, ExportError, PlanError, RecipeError
from mtcore.export import ExporterSpec, UnifiedExporter
from mtcore.nn import LowRankLinear, QuantLinear
from mtcore.plugins import Registry
from mtcore.quantization import plan_model, quantized_of, to_artifact


def rich_in_outliers() -> nn.Module:
    """Weights of small noise and two strong directions that touch every element."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 128)).eval()
    with torch.no_grad():
        for layer in (model[0], model[2]):
            rows, cols = layer.weight.shape
            layer.weight.copy_(torch.randn(rows, 2) @ torch.randn(2, cols) + 0.05 * torch.randn(rows, cols))
    return model


def batches(seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(32, 128, generator=generator) for _ in range(2)]


def config(weight: str, *steps: object, inputs: str | None = None) -> dict:
    rule = {"weight": weight} if inputs is None else {"weight": weight, "input": inputs}
    return {"rules": [rule], "algorithm": list(steps)}


def split(rank: int = 4, **options: object) -> dict:
    return {"method": "svdquant", "rank": rank, **options}


@torch.no_grad()
def error(steps: dict, **more: object) -> float:
    model, x = rich_in_outliers(), batches(2)[0]
    wanted = model(x)
    return float((mtcore.quantize(model, steps, forward_loop=batches())(x) - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("inputs", [None, "nvfp4"])
@pytest.mark.parametrize("weight", ["nvfp4", "int4_b32"])
def test_a_weight_rich_in_outliers_loses_less_than_with_max(weight, inputs):
    if inputs is not None and weight != "nvfp4":
        inputs = "int8_row"
    plain = error(config(weight, "max", inputs=inputs))
    assert error(config(weight, split(), inputs=inputs)) < (0.5 if inputs is None else 0.9) * plain


@torch.no_grad()
def test_the_rest_and_the_branch_are_the_weight():
    """The branch has 16-bit values, and the rest is taken from it in fp32: one rounding of it is left."""
    model = rich_in_outliers()
    original = model[0].weight.clone()
    layer = mtcore.quantize(model, config("nvfp4", split()))[0]
    assert isinstance(layer, LowRankLinear)
    assert torch.equal(layer.lora_a, layer.lora_a.bfloat16().float())
    torch.testing.assert_close(layer.weight + layer.lora_b @ layer.lora_a, original, rtol=0, atol=1e-5)


@torch.no_grad()
def test_strong_in_the_outputs_takes_what_the_data_reach():
    """Half of the inputs are zero; the other half is where the branch is needed."""
    data = [torch.cat((x[:, :64], 1e-3 * x[:, 64:]), 1) for x in batches()]
    model, x = rich_in_outliers(), data[0]
    wanted = model[0](x)
    found = []
    for strong in ("weights", "outputs"):
        layer = mtcore.quantize(rich_in_outliers(), config("int4_b32", split(1, strong=strong)), data)[0]
        found.append(float((layer(x) - wanted).norm()))
    assert found[1] < found[0]


def test_strong_in_the_outputs_needs_data():
    with pytest.raises(CalibrationError, match="needs calibration data"):
        mtcore.quantize(rich_in_outliers(), config("nvfp4", split(strong="outputs")))


@pytest.mark.parametrize("steps", [["smoothquant", split()], [split(), "gptq"], ["awq", split(), "mse"]])
def test_it_is_one_step_of_several(steps):
    assert error(config("int4_b32", *steps, inputs="int8_row")) < error(
        config("int4_b32", "max", inputs="int8_row")
    )


@pytest.mark.parametrize("late", ["smoothquant", "rotate", split()])
def test_a_step_that_the_branch_would_miss_is_refused_beforehand(late):
    with pytest.raises(PlanError, match=r"0 has a low-rank branch from an earlier step"):
        mtcore.quantize(rich_in_outliers(), config("nvfp4", split(), late), batches())


@pytest.mark.parametrize("rank", [0, -3, 1.5, "many"])
def test_a_bad_rank_is_refused_while_planning(rank):
    with pytest.raises(ValidationError):
        SvdQuantOptions.model_validate({"rank": rank})
    with pytest.raises(RecipeError, match=r"svdquant.*'rank'"):
        plan_model(rich_in_outliers(), config("nvfp4", split(rank)))


def test_the_plan_says_what_the_branches_cost_and_which_layers_are_too_small():
    """16 bits · rank · (rows + cols) against the quantized weight's 4.5 bits an element."""
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 16))
    plan = plan_model(model, config("nvfp4", split(8)))
    assert (plan["0"].low_rank, plan["0"].branch_bytes) == (8, 2 * 8 * (128 + 256))
    assert plan["2"].low_rank == 0
    (note,) = [finding for finding in plan.findings if finding.where == "2"]
    assert note.message == "gets no branch: with rank 8 it would take 4352 bytes, the quantized weight 2304"


def test_a_model_whose_layers_are_all_too_small_is_rounded_as_with_max_which_the_plan_says():
    plan = plan_model(rich_in_outliers(), config("nvfp4", split(64)))
    (warning,) = [finding for finding in plan.findings if finding.where == "svdquant"]
    assert warning.message == "no linear layer is large enough for a branch of rank 64; choose a smaller rank"
    assert error(config("nvfp4", split(64))) == error(config("nvfp4", "max"))


def test_without_planned_branches_it_says_where_they_come_from():
    model = mtcore.quantize(rich_in_outliers(), config("nvfp4", "max"))
    with pytest.raises(CalibrationError, match="no layer of this model was planned with a low-rank branch"):
        mtcore.calibrate(model, "svdquant")


def test_calibrating_again_starts_from_the_whole_weight():
    model = mtcore.quantize(rich_in_outliers(), config("nvfp4", split()))
    first = {name: value.clone() for name, value in model.state_dict().items()}
    mtcore.calibrate(model, split())
    assert all(torch.equal(value, first[name]) for name, value in model.state_dict().items())


def test_a_weight_that_is_not_finite_is_refused_by_name():
    model = rich_in_outliers()
    with torch.no_grad():
        model[2].weight[3, 4] = torch.nan
    with pytest.raises(CalibrationError, match=r"2: the weight holds NaN"):
        mtcore.quantize(model, config("nvfp4", split()))
    assert type(model[2]) is nn.Linear


@torch.no_grad()
def test_undo_gives_the_original_outputs_bit_for_bit():
    model, x = rich_in_outliers(), batches()[0]
    before = model(x)
    assert torch.equal(mtcore.undo(mtcore.quantize(model, config("nvfp4", split())))(x), before)


@torch.no_grad()
@pytest.mark.parametrize("on", ["cpu", "meta"])
def test_a_saved_model_is_restored_with_its_branches(tmp_path, on):
    x = batches()[0]
    steps = config("nvfp4", "smoothquant", split(), inputs="nvfp4")
    model = mtcore.quantize(rich_in_outliers(), steps, forward_loop=batches())
    mtcore.save(model, tmp_path / "state")
    with torch.device(on):
        fresh = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 128))
    restored = mtcore.load(tmp_path / "state", fresh)
    assert isinstance(restored[0], LowRankLinear)
    assert torch.equal(restored(x), model(x))


@torch.no_grad()
def test_the_artifact_holds_the_branch_in_16_bits():
    model = mtcore.quantize(rich_in_outliers(), config("int4_b32", split()))
    artifact = to_artifact(model)
    branch = artifact.modules["0"].low_rank
    assert (branch.up.dtype, branch.up.shape, branch.down.shape) == (torch.bfloat16, (256, 4), (4, 128))
    assert torch.equal(branch.up.float(), model[0].lora_b)
    assert not [name for name in artifact.tensors if "lora" in name]


def test_a_dialect_that_cannot_hold_branches_refuses_by_name_before_the_run():
    plan = plan_model(rich_in_outliers(), config("nvfp4", split()))
    plain = ExporterSpec("plain", "for tests", lambda plan: (), lambda artifact, out: None)
    with pytest.raises(ExportError, match=r"0 and 1 more: plain cannot hold a low-rank branch in 16 bits"):
        UnifiedExporter({"plain": plain}).check(plan, "plain")


def test_compress_leaves_a_layer_with_a_branch_and_says_so(caplog):
    model = mtcore.quantize(rich_in_outliers(), config("nvfp4", split()))
    with caplog.at_level("WARNING"):
        mtcore.quantization.compress(model)
    assert isinstance(model[0], QuantLinear)
    assert "0 stays as it is: its weight is stored with a low-rank branch beside it" in caplog.text


def test_the_summary_measures_the_whole_weight():
    """Against the rest alone, 4 bits give about 20 dB; the branch makes the whole far better than that."""
    registry = Registry.load(discover=False)
    found = {}
    for name, step in (("max", "max"), ("svd", split())):
        model = rich_in_outliers()
        plan = plan_model(model, config("int4_b32", step), registry=registry)
        mtcore.quantization.apply_plan(model, plan, registry=registry, summary=True)
        found[name] = quantized_of(model).summary.layers[0].weight_sqnr
    assert found["svd"] > found["max"] + 10


def test_the_record_says_what_it_is():
    assert SVDQUANT.name == "svdquant"


class Attention(nn.Module):
    """torch's own, which reads the weight of its output projection without calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x)[0]


@torch.no_grad()
def test_a_layer_that_its_parent_reads_without_calling_keeps_its_branch():
    """Outputs near 1; the rest and the branch round apart."""
    torch.manual_seed(0)
    model, x = Attention().eval(), torch.randn(2, 5, 64)
    wanted = model(x)
    rules = {"rules": [{"weight": "int8"}], "algorithm": [split(8)]}
    quantized = mtcore.quantize(model, rules, forward_loop=[x])
    assert isinstance(quantized.attention.out_proj, LowRankLinear)
    for module in quantized.modules():
        if hasattr(module, "disable"):
            module.disable()
    torch.testing.assert_close(quantized(x), wanted, rtol=0, atol=1e-5)
