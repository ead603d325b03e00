"""Starved experts are counted, named and topped up as asked for, in a stack and in a list of modules."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import mtcore
from mtcore.calibration import as_forward_loop
from mtcore.calibration.ranks import _CURRENT
from mtcore.calibration.top_up import count_tokens
from mtcore.errors import CalibrationError
from mtcore.plugins import Registry
from mtcore.quantization import apply_plan, convert, plan_model, quantized_of

EXPERTS, WIDTH = 4, 32


class Stack(nn.Module):
    """Matrices in one parameter; every token goes to two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, 48, WIDTH) / 6)
        self.down = nn.Parameter(torch.randn(EXPERTS, WIDTH, 48) / 7)

    def forward(self, x, chosen):
        y = torch.zeros_like(x)
        for expert in range(EXPERTS):
            rows = (chosen == expert).any(-1).nonzero().flatten()
            if len(rows):
                y = y.index_add(0, rows, F.linear(F.relu(F.linear(x[rows], self.up[expert])), self.down[expert]))
        return y


class Listed(nn.ModuleList):
    """The same as modules."""

    def __init__(self) -> None:
        super().__init__(
            nn.Sequential(nn.Linear(WIDTH, 48, bias=False), nn.ReLU(), nn.Linear(48, WIDTH, bias=False))
            for _ in range(EXPERTS)
        )

    def forward(self, x, chosen):
        y = torch.zeros_like(x)
        for number, expert in enumerate(self):
            rows = (chosen == number).any(-1).nonzero().flatten()
            if len(rows):
                y = y.index_add(0, rows, expert(x[rows]))
        return y


class Routed(nn.Module):
    """A router that sends a token to the two experts whose features are largest."""

    def __init__(self, experts: nn.Module) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, EXPERTS, bias=False)
        self.experts = experts
        with torch.no_grad():
            self.router.weight.copy_(torch.eye(EXPERTS, WIDTH))

    def forward(self, x):
        return x + self.experts(x, self.router(x).topk(2, -1).indices)


class Model(nn.Module):
    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.block = Routed(kind())
        self.head = nn.Linear(WIDTH, 8)

    def forward(self, x):
        return self.head(self.block(x))


def tokens(*experts: int, count: int = 8, size: float = 1.0) -> torch.Tensor:
    """`count` tokens that are routed to these two experts."""
    x = torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(sum(experts))) * size
    x[:, :EXPERTS] = 0
    x[:, list(experts)] = 10.0
    return x


KINDS = [Stack, Listed]
FEW = [tokens(0, 1), tokens(0, 2), tokens(1, 2)]
"""Expert 3 sees nothing."""


def name(kind, number=3):
    return f"block.experts[{number}]" if kind is Stack else f"block.experts.{number}"


@pytest.fixture(scope="module")
def registry():
    return Registry.load(discover=False)


@pytest.fixture
def run(registry):
    def quantize(kind, data, experts=None, more=None, algorithm="max"):
        model = Model(kind).eval()
        config = {
            "rules": [{"weight": "fp8", "input": "fp8"}, {"modules": ["head", "*router"], "skip": True}],
            "algorithm": algorithm,
            **({} if experts is None else {"experts": experts}),
        }
        plan = plan_model(model, config, inputs=tokens(2, 3), registry=registry)
        made = apply_plan(model, plan, data, registry=registry, summary=True, more=more)
        return made, quantized_of(made).summary.starved

    return quantize


@pytest.mark.parametrize("kind", KINDS)
def test_a_starved_expert_is_named_with_its_tokens(run, kind):
    _, starved = run(kind, [*FEW, tokens(0, 3, count=1)])
    (expert,) = starved
    assert (expert.name, expert.tokens, expert.average) == (name(kind), 1, 12.5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_expert_is_starved_below_the_tokens_that_are_asked_for(run, kind):
    _, starved = run(kind, [*FEW, tokens(0, 3, count=4)], {"min_tokens": 5})
    assert [(expert.name, expert.tokens) for expert in starved] == [(name(kind), 4)]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_where_all_have_enough(run, kind):
    assert run(kind, [*FEW, tokens(0, 3)], {"min_tokens": 5})[1] == ()


def test_an_expert_module_without_a_token_is_an_error_by_name(run):
    with pytest.raises(CalibrationError, match=r"never reached 2 quantizers \(block\.experts\.3\.0\.input"):
        run(Listed, FEW)


def test_it_gets_the_scale_of_its_siblings_where_that_is_asked_for_and_the_summary_says_so(run):
    model, (expert,) = run(Listed, FEW, {"unseen": "siblings"})
    assert (expert.name, expert.tokens) == ("block.experts.3", 0)
    assert expert.remedy == "its input has the scale of its siblings"
    scales = [layer[0].input_quantizer.amax for layer in model.block.experts]
    assert torch.equal(scales[3], torch.stack(scales[:3]).amax(0))


def test_an_expert_of_a_stack_without_a_token_shares_its_siblings_scale_and_the_summary_says_so(run):
    _, (expert,) = run(Stack, FEW)
    assert (expert.name, expert.tokens, expert.remedy) == (
        "block.experts[3]",
        0,
        "its input has the scale of its siblings",
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_all_experts_sees_every_token_of_the_data(run, kind):
    """The input of the second product is that of a run in which every token went to expert 3 as well."""
    model, (expert,) = run(kind, FEW, {"when_starved": "all_experts"})
    assert (expert.name, expert.tokens, expert.remedy) == (name(kind), 0, "it was given all tokens of the data")
    plain, x = Model(kind), torch.cat(FEW)
    if kind is Stack:
        inner = [F.relu(x @ weight.T) for weight in plain.block.experts.up]
        routed = torch.cat([FEW[0], FEW[1]]), torch.cat([FEW[0], FEW[2]]), torch.cat([FEW[1], FEW[2]])
        seen = [F.relu(part @ w.T).amax() for part, w in zip(routed, plain.block.experts.up, strict=False)]
        found, expected = model.block.experts.down_input_quantizer.amax, max(*seen, inner[3].amax())
    else:
        found = model.block.experts[3][2].input_quantizer.amax
        expected = F.relu(plain.block.experts[3][0](x)).amax()
    torch.testing.assert_close(found.flatten()[0], expected, rtol=1e-6, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_all_experts_leaves_the_outputs_and_no_hook(run, kind):
    model, _ = run(kind, FEW, {"when_starved": "all_experts"})
    x = tokens(0, 1)
    mtcore.undo(model)
    assert torch.equal(model(x), Model(kind)(x))
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_all_experts_without_a_choice_in_sight_is_refused(run, monkeypatch):
    monkeypatch.setattr("mtcore.trace.dealing.CHOICES", {})
    with pytest.raises(CalibrationError, match=r"block\.experts: nothing around it was seen to choose among 4"):
        run(Stack, FEW, {"when_starved": "all_experts"})


@pytest.mark.parametrize("kind", KINDS)
def test_more_samples_are_taken_until_every_expert_has_its_tokens(run, kind):
    tried = []

    def more():
        for batch in (tokens(0, 1, size=50), tokens(2, 3, count=3), tokens(1, 3, count=3), tokens(0, 3, count=3)):
            tried.append(batch)
            yield batch

    setting = {"when_starved": "more_samples", "min_tokens": 5}
    model, (expert,) = run(kind, FEW, setting, more())
    assert (expert.name, expert.tokens, expert.remedy) == (name(kind), 0, "6 tokens with 2 more batches")
    assert len(tried) == 4, "one is looked at to know that nothing is missing any more"
    first = model.block.experts
    amax = first.up_input_quantizer.amax if kind is Stack else first[0][0].input_quantizer.amax
    assert float(amax) < 50, "a batch that does not reach the expert is not taken"


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_end_before_every_expert_has_its_tokens_are_said(run, kind):
    setting = {"when_starved": "more_samples", "min_tokens": 5}
    _, (expert,) = run(kind, FEW, setting, [tokens(1, 3, count=2)])
    assert (
        expert.remedy
        == "2 tokens with 1 more batches, and no more were to be had (at most seven times the samples)"
    )


def test_more_samples_without_a_source_are_refused(run):
    with pytest.raises(CalibrationError, match="nothing tells where more data are"):
        run(Stack, FEW, {"when_starved": "more_samples", "min_tokens": 5})


def test_ranks_count_the_tokens_of_all(on_ranks, registry):
    config = {"rules": [{"weight": "fp8", "input": "fp8"}, {"modules": ["head", "*router"], "skip": True}]}
    plan = plan_model(Model(Stack), config, inputs=tokens(2, 3), registry=registry)
    data = [[tokens(0, 1)], [tokens(2, 3, count=2)]]

    def work(ranks):
        own = Model(Stack).eval()
        convert(own, plan, registry.quant_modules)
        token = _CURRENT.set(ranks)  # what `data_parallel` does, whose group is of processes
        try:
            (group,) = count_tokens(own, plan, as_forward_loop(data[ranks.rank]))
        finally:
            _CURRENT.reset(token)
        return dict(group.tokens)

    assert on_ranks(2, work) == [{0: 8, 1: 8, 2: 2, 3: 2}] * 2


def test_experts_that_cannot_be_counted_are_said(run, monkeypatch, caplog):
    """As if a product were none that can be counted."""
    monkeypatch.setattr("mtcore.nn.expert_rows.ExpertRows.count", lambda self, *_: setattr(self, "known", False))
    with caplog.at_level("WARNING"):
        run(Stack, FEW)
    assert "the tokens of the experts in block.experts were not counted" in caplog.text
    with pytest.raises(CalibrationError, match=r"all_experts, but the tokens of the experts in block\.experts"):
        run(Stack, FEW, {"when_starved": "all_experts"})


class Blocks(nn.Module):
    """Two blocks with listed experts, whose second one reads what the first one wrote."""

    def __init__(self, *, routes_stay: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(Routed(Listed()) for _ in range(2))
        with torch.no_grad():
            for layer in self.layers:
                for expert in layer.experts if routes_stay else ():
                    expert[2].weight[:EXPERTS] = 0  # what routes a token is not written

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.fixture
def gptq(registry):
    def quantize(data, algorithm="gptq", model=None, **experts):
        rules = [{"weight": "nvfp4"}, {"modules": "*router", "skip": True}]
        model = (model or Blocks()).eval()
        config = {"rules": rules, "algorithm": algorithm, "experts": experts}
        plan = plan_model(model, config, inputs=tokens(2, 3), registry=registry)
        return apply_plan(model, plan, data, registry=registry)

    return quantize


@torch.no_grad()
def test_gptq_rounds_an_expert_that_only_a_late_batch_reaches(gptq):
    model = gptq([*FEW, tokens(2, 3)])
    for layer, plain in zip(model.layers, Blocks().layers, strict=True):
        assert not torch.equal(layer.experts[3][0].weight, plain.experts[3][0].weight)


@torch.no_grad()
def test_gptq_rounds_an_expert_without_a_token_to_nearest_only_where_that_is_asked_for(gptq, caplog):
    with pytest.raises(CalibrationError, match=r"layers\.0\.experts\.3\.0.*see `experts\.unseen`"):
        gptq(FEW)
    with caplog.at_level("WARNING"):
        model = gptq(FEW, unseen="siblings")
    assert "layers.0.experts.3.0: no data reached it; its weight is rounded to nearest" in caplog.text
    first, plain = model.layers[0].experts, Blocks().layers[0].experts
    assert torch.equal(first[3][0].weight, plain[3][0].weight)
    assert not torch.equal(first[0][0].weight, plain[0][0].weight)


@torch.no_grad()
def test_gptq_goes_on_where_the_rounded_model_routes_tokens_elsewhere(gptq):
    """Rounding in the first block changes what routes some token in the second one."""
    data = [torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)]
    correct = {"method": "gptq", "correct": True}
    model = gptq(data, correct, Blocks(routes_stay=False), unseen="siblings")
    assert not torch.equal(model.layers[1].experts[0][0].weight, Blocks().layers[1].experts[0][0].weight)
