"""`rotate` turns channels only where outputs stay, finds the size of heads by itself, and can be undone."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.errors import CalibrationError
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze


class Attention(nn.Module):
    """Two query heads for each of two heads of keys and values, 16 channels each; then a gated map."""

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(32, 64), nn.Linear(32, 32)
        self.v, self.o = nn.Linear(32, 32), nn.Linear(64, 32)
        self.gate, self.up, self.down = nn.Linear(32, 48), nn.Linear(32, 48), nn.Linear(48, 32)

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (-1, 16)).transpose(1, 2) for f in (self.q, self.k, self.v))
        k, v = (t.repeat_interleave(2, dim=1) for t in (k, v))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(torch.relu(self.gate(x)) * self.up(x))


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return Attention().eval()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 8, 32, generator=generator) for _ in range(2)]


@pytest.fixture
def calibrate(attention, data, specs, make_config):
    def run(loop, *steps):
        plan = make_plan(attention, make_config({"*weight_quantizer": "nvfp4"}), specs, analyze(attention, data[0]))
        converted, journal = convert(attention, plan, specs)
        resolved = resolve_algorithms(steps, {spec.name: spec for spec in builtin_algorithms()})
        run_algorithms(converted, plan, resolved, loop, journal.parameters)
        return converted, journal

    return run


@torch.no_grad()
def test_outputs_stay_and_only_the_linear_path_is_turned(calibrate, attention, data):
    before = attention(data[1])
    weights = {name: value.clone() for name, value in attention.named_parameters()}
    turned, _ = calibrate(as_forward_loop(data), AlgorithmStep("rotate"))
    for module in turned.modules():
        if hasattr(module, "weight_quantizer"):
            module.weight_quantizer.disable()
    changed = {name for name, value in turned.named_parameters() if not torch.equal(value, weights[name])}
    assert changed == {"v.weight", "v.bias", "o.weight"}
    assert torch.allclose(turned(data[1]), before, atol=1e-5)  # values near 1, some hundred roundings of fp32


@torch.no_grad()
def test_channels_of_two_heads_are_never_mixed(calibrate, attention, data):
    value = attention.v.weight.clone()
    turned, _ = calibrate(as_forward_loop(data), AlgorithmStep("rotate"))
    # a rotation keeps the sum of squares of what it mixes: of one head, not of half a head
    sums = lambda weight: weight.square().view(2, 16, 32).sum((1, 2))  # noqa: E731
    assert torch.allclose(sums(turned.v.weight), sums(value), rtol=1e-5)
    assert not torch.allclose(turned.v.weight[:8].square().sum(), value[:8].square().sum(), rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("steps", [["rotate"], ["rotate", "smoothquant", "gptq"]], ids="+".join)
def test_undo_gives_the_original_outputs_bit_for_bit(calibrate, attention, data, steps):
    before = attention(data[0])
    _, journal = calibrate(as_forward_loop(data), *map(AlgorithmStep, steps))
    journal.undo()
    assert torch.equal(attention(data[0]), before)


def test_heads_that_are_too_small_are_left_alone(calibrate, attention, data):
    before = attention.v.weight.clone()
    turned, _ = calibrate(as_forward_loop(data), AlgorithmStep("rotate", {"least": 32}))
    assert torch.equal(turned.v.weight, before)


def test_without_data_it_says_what_to_give(calibrate):
    with pytest.raises(CalibrationError, match="rotate needs calibration data"):
        calibrate(None, AlgorithmStep("rotate"))


def test_a_loop_that_runs_nothing_is_a_clear_error(calibrate):
    with pytest.raises(CalibrationError, match="never reached the model"):
        calibrate(lambda model: None, AlgorithmStep("rotate"))


def test_a_failing_loop_leaves_no_hook(calibrate, attention):
    def broken(model):
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        calibrate(broken, AlgorithmStep("rotate"))
    assert not any(module._forward_hooks for module in attention.modules())
