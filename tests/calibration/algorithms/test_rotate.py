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


class Norm(nn.Module):
    """A root-mean-square norm that multiplies by `weight + offset`."""

    def __init__(self, offset=0.0):
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.rand(32) + 0.5 - offset), offset

    def forward(self, x):
        return F.rms_norm(x, (32,)) * (self.weight + self.offset)


class Decoder(nn.Module):
    """Ids → logits: two blocks that read a residual stream through norms and write into it."""

    def __init__(self, norm=Norm, tied=False):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 32), nn.Linear(32, 50, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": norm(),
                    "gate": nn.Linear(32, 48, bias=False),
                    "up": nn.Linear(32, 48, bias=False),
                    "down": nn.Linear(48, 32),
                }
            )
            for _ in range(2)
        )
        self.norm = norm()
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            h = block["norm"](x)
            x = x + block["down"](F.silu(block["gate"](h)) * block["up"](h))
        return self.head(self.norm(x))


@pytest.fixture
def ids():
    return [torch.randint(50, (2, 8), generator=torch.Generator().manual_seed(n)) for n in range(2)]


@pytest.fixture
def turn(ids, specs, make_config):
    def run(model, *steps, rules=None):
        rules = rules or {"*weight_quantizer": "nvfp4", "*head*": None, "*embed*": None}
        plan = make_plan(model, make_config(rules), specs, analyze(model, ids[0]))
        converted, journal = convert(model, plan, specs)
        resolved = resolve_algorithms(steps, {spec.name: spec for spec in builtin_algorithms()})
        run_algorithms(converted, plan, resolved, as_forward_loop(ids), journal.parameters)
        return converted, journal

    return run


def decoder(*args, **kwargs):
    torch.manual_seed(0)
    return Decoder(*args, **kwargs).eval()


def unrounded(model):
    for module in model.modules():
        if hasattr(module, "disable"):
            module.disable()
    return model


@torch.no_grad()
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_the_residual_stream_is_turned_and_its_norms_are_absorbed(turn, ids, offset):
    """Values near 1, some hundred roundings of fp32 on the way."""
    model = decoder(lambda: Norm(offset))
    before, down = model(ids[1]), model.blocks[0]["down"].weight.clone()
    turned, _ = turn(model, AlgorithmStep("rotate"))
    assert torch.allclose(unrounded(turned)(ids[1]), before, atol=1e-5)
    for norm in (turned.norm, turned.blocks[0]["norm"], turned.blocks[1]["norm"]):
        assert torch.allclose(norm.weight + offset, torch.ones(32), atol=1e-6)
    found = turned.blocks[0]["down"].weight
    assert not torch.allclose(found, down, atol=1e-2)
    assert torch.allclose(found.square().sum(0), down.square().sum(0), rtol=1e-5), "a rotation of its rows"


@torch.no_grad()
@pytest.mark.parametrize("model", [lambda: decoder(lambda: nn.LayerNorm(32)), lambda: decoder(tied=True)])
def test_a_stream_that_cannot_be_turned_stays_as_it_is(turn, ids, model):
    made = model()
    weights = {name: value.clone() for name, value in made.named_parameters()}
    turned, _ = turn(made, AlgorithmStep("rotate"))
    assert all(torch.equal(value, weights[name]) for name, value in turned.named_parameters())


@torch.no_grad()
def test_it_can_be_left_out(turn, ids):
    model = decoder()
    embed = model.embed.weight.clone()
    turned, _ = turn(model, AlgorithmStep("rotate", {"residual": False}))
    assert torch.equal(turned.embed.weight, embed)


@torch.no_grad()
def test_a_turned_stream_is_undone_bit_for_bit(turn, ids):
    model = decoder()
    before = model(ids[0])
    _, journal = turn(model, AlgorithmStep("rotate"), AlgorithmStep("smoothquant"), AlgorithmStep("mse"))
    journal.undo()
    assert torch.equal(model(ids[0]), before)


@torch.no_grad()
def test_channels_that_stand_out_in_the_stream_cost_less_when_it_is_turned(turn, ids):
    model = decoder()
    model.embed.weight[:, 5] *= 30
    wanted = model(ids[1])
    rules = {"*weight_quantizer": "int8_row", "*input_quantizer": "int4_b32", "*head*": None, "*embed*": None}
    errors = []
    for step in ("max", "rotate"):
        rounded, journal = turn(model, AlgorithmStep(step), rules=rules)
        errors.append(float((rounded(ids[1]) - wanted).norm()))
        journal.undo()
    assert errors[1] < 0.8 * errors[0]


def test_a_zero_in_a_norm_keeps_the_stream_as_it_is(turn, ids):
    model = decoder()
    with torch.no_grad():
        model.norm.weight[3] = 0
    embed = model.embed.weight.clone()
    turned, _ = turn(model, AlgorithmStep("rotate"))
    assert torch.equal(turned.embed.weight, embed)


@torch.no_grad()
def test_without_kept_originals_the_stream_is_turned_once(ids, specs, make_config):
    model = decoder()
    before = model(ids[1])
    plan = make_plan(model, make_config({"*weight_quantizer": "nvfp4"}), specs, analyze(model, ids[0]))
    converted, journal = convert(model, plan, specs)
    journal.parameters.keep = False
    resolved = resolve_algorithms([AlgorithmStep("rotate")], {spec.name: spec for spec in builtin_algorithms()})
    run_algorithms(converted, plan, resolved, as_forward_loop(ids), journal.parameters)
    assert torch.allclose(unrounded(converted)(ids[1]), before, atol=1e-5)
