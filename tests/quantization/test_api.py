"""The facade: the two samples of the reference architecture word for word, and what happens when things fail."""

import textwrap

import pytest
import torch
from torch import nn

from mtcore.errors import CalibrationError, PlanError, RecipeError, StateError, TraceError
from mtcore.nn import QuantLinear, TensorQuantizer
from mtcore.plugins import Registry
from mtcore.quantization import calibrate, is_quantized, plan_model, quantize, quantized_of, undo

TRACE_SAMPLE = """
from mtcore.trace import recursive_trace

# Entry point
graphs = recursive_trace(model)

# Query
for module in graphs:
    graph = graphs[module]                    # FX graph
    failed = graphs.is_failed(module)         # Trace failed?
    msg = graphs.failure_msg(module)          # Why failed?
"""

INT8_SAMPLE = """
from mtcore.quantization import quantize

config = {
    "quant_cfg": {
        "*weight_quantizer": {"num_bits": 8},
        "*input_quantizer": {"num_bits": 8},
    },
    "algorithm": "max"
}

model = quantize(model, config, forward_loop=calib_loader)
"""

NVFP4_SAMPLE = """
from mtcore.quantization import quantize

# Configuration
NVFP4_CFG = {
    "quant_cfg": {
        # Linear weights: NVFP4 (4-bit FP)
        "*.linear.weight_quantizer": {
            "num_bits": 4,
            "format": "nvfp4"
        },
        # Linear activations: FP8 (8-bit FP)
        "*.linear.input_quantizer": {
            "num_bits": 8,
            "format": "fp8"
        },
        # LM head: default
        "*lm_head*": {"num_bits": 8},
    },
    "algorithm": "max"
}

# Apply
def calib_loop(model):
    for batch in calib_dataloader:
        model(batch.cuda())

model = quantize(model, NVFP4_CFG, forward_loop=calib_loop)
"""


@pytest.fixture(scope="module")
def registry():
    return Registry.load(discover=False)


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(32), nn.Linear(32, 32)

    def forward(self, x):
        return x + torch.relu(self.linear(self.norm(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Layer(), Layer())
        self.lm_head = nn.Linear(32, 10)

    def forward(self, x):
        return self.lm_head(self.layers(x))


def run(sample: str, **names):
    exec(textwrap.dedent(sample), names)
    return names


def formats_of(layer) -> dict[str, str]:
    return {slot: quantizer.format.name for slot, quantizer in layer.quantizers()}


def test_the_trace_sample_runs_as_written():
    names = run(TRACE_SAMPLE, model=Net())
    assert isinstance(names["graph"], torch.fx.Graph)
    assert names["failed"] is False
    assert names["msg"] is None


def test_the_int8_sample_runs_as_written_with_an_iterable_of_batches(batch):
    model = run(INT8_SAMPLE, model=Net(), calib_loader=[batch, 3 * batch])["model"]
    layer = model.layers[1].linear
    assert formats_of(layer) == {"weight": "int8", "input": "int8"}
    assert layer.input_quantizer.amax is not None
    assert torch.isfinite(model(batch)).all()


def test_the_nvfp4_sample_runs_as_written_with_a_loop(batch, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)  # this machine may have no GPU
    model = run(NVFP4_SAMPLE, model=Net(), calib_dataloader=[batch])["model"]
    assert formats_of(model.layers[0].linear) == {"weight": "nvfp4", "input": "fp8"}
    assert formats_of(model.lm_head)["weight"] == "int8"
    assert torch.isfinite(model(batch)).all()


def test_recipes_are_taken_by_name_and_calibrated_from_batches(batch, registry):
    model = quantize(Net(), "nvfp4", [batch], registry=registry)
    assert isinstance(model.layers[0].linear, QuantLinear)
    assert type(model.lm_head) is nn.Linear
    assert quantized_of(model).plan.recipe == "nvfp4"


def test_a_plan_is_made_without_touching_the_model(batch, registry):
    model = Net()
    before = [id(module) for module in model.modules()]
    plan = plan_model(model, "fp8", inputs=batch, registry=registry)
    assert len(plan.quantized) == 2
    assert [id(module) for module in model.modules()] == before


def test_missing_data_puts_the_model_back(batch, registry):
    model = Net()
    before, output = [id(module) for module in model.modules()], model(batch)
    with pytest.raises(CalibrationError, match="needs calibration data"):
        quantize(model, "fp8", registry=registry)
    assert [id(module) for module in model.modules()] == before
    assert not is_quantized(model)
    assert torch.equal(model(batch), output)


def test_a_loop_that_raises_puts_the_model_back(batch, registry):
    model, before = Net(), None
    before = [id(module) for module in model.modules()]

    def loop(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(model, "fp8", loop, registry=registry)
    assert [id(module) for module in model.modules()] == before


def test_a_loop_that_gives_up_its_batches_once_is_not_robbed_of_the_first(batch, registry):
    model = quantize(Net(), "fp8", iter([9 * batch, batch]), registry=registry)
    largest = model.layers[0].norm(9 * batch).abs().max()
    assert model.layers[0].linear.input_quantizer.amax.item() == largest.item()


def test_problems_of_recipe_and_plan_come_before_any_change(registry):
    model = Net()
    with pytest.raises(RecipeError, match="Did you mean 'nvfp4'"):
        quantize(model, "nvpf4", registry=registry)
    with pytest.raises(PlanError, match="matches no quantizer"):
        quantize(model, {"quant_cfg": {"*q_proj.weight_quantizer": {"num_bits": 8}}}, registry=registry)
    assert not any(isinstance(module, TensorQuantizer) for module in model.modules())


def test_one_problem_of_many_layers_is_one_line_with_the_rule_that_leaves_them_out():
    model = nn.Sequential(*(nn.ModuleDict({"up": nn.Linear(20, 8)}) for _ in range(40)))
    with pytest.raises(PlanError) as caught:
        quantize(nn.ModuleDict({"layers": model}), {"rules": [{"weight": "nvfp4"}], "algorithm": "max"})
    assert str(caught.value) == (
        "layers.[0-39].up: 20 input features are not a multiple of block 16 (format nvfp4, rule #1 of the given "
        "config); "
        "leave it out: --set 'rules.+={modules: [\"layers.*.up\"], skip: true}'"
    )


def test_inputs_that_the_model_fails_on_are_an_error_of_the_trace(registry):
    with pytest.raises(TraceError, match="fails on the example inputs"):
        quantize(Net(), "fp8", [torch.ones(1, 7)], registry=registry)


def test_calibrate_again_with_other_data(batch, registry):
    model = quantize(Net(), "fp8", [batch], registry=registry)
    before = model.lm_head.weight.clone(), model.layers[0].linear.input_quantizer.amax.clone()
    calibrate(model, "max", [100 * batch], registry=registry)
    assert not torch.equal(model.layers[0].linear.input_quantizer.amax, before[1])


def test_undo_gives_the_original_back(batch, registry):
    model = Net()
    output = model(batch)
    assert torch.equal(undo(quantize(model, "nvfp4", [batch], registry=registry))(batch), output)
    with pytest.raises(StateError, match="was not quantized"):
        undo(model)
