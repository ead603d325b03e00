"""An expert that data hardly reached is found by name and count; blocks of a decoder are no experts."""

import torch
from torch import nn

from mtcore.calibration import as_forward_loop, builtin_algorithms, resolve_algorithms, run_algorithms
from mtcore.calibration.experts import StarvedExpert, starved_experts, starved_lines
from mtcore.calibration.statistics import AMAX, Statistics, gather
from mtcore.plan import make_plan
from mtcore.quantization import convert
from mtcore.trace import analyze


class Routed(nn.Module):
    """Three experts in each of two blocks; the last one gets one token, or none."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"experts": nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(3))})
            for _ in range(2)
        )

    def forward(self, x):
        for number, block in enumerate(self.blocks):
            parts = x.tensor_split((16, 31 + number))
            x = torch.cat([expert(part) for expert, part in zip(block["experts"], parts, strict=True) if len(part)])
        return x


def names_of(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]


def test_starved_experts_are_named_with_what_they_and_their_siblings_saw():
    model = Routed().eval()
    found = gather(
        model, as_forward_loop([torch.ones(32, 4)]), dict.fromkeys(((n, "input") for n in names_of(model)), AMAX)
    )
    starved = starved_experts(model, names_of(model), Statistics(None, found))
    assert [(expert.name, expert.tokens) for expert in starved] == [
        ("blocks.0.experts.2", 1),
        ("blocks.1.experts.2", 0),
    ]
    assert starved[0].average == 32 / 3


def test_blocks_that_all_see_the_same_tokens_are_not_starved():
    model = nn.ModuleDict({"layers": nn.ModuleList(nn.Linear(4, 4) for _ in range(3))})
    loop = lambda root: [layer(torch.ones(5, 4)) for layer in root["layers"]]  # noqa: E731
    found = gather(model, loop, dict.fromkeys(((n, "input") for n in names_of(model)), AMAX))
    assert starved_experts(model, names_of(model), Statistics(None, found)) == ()


def test_of_many_starved_experts_the_first_are_told_and_the_rest_counted():
    starved = [StarvedExpert(f"experts[{n}]", n, 50.0, "it was given all tokens of the data") for n in range(13)]
    lines = list(starved_lines(starved, most=2))
    assert lines == [
        "starved expert: experts[0] saw 0 tokens, its siblings 50: it was given all tokens of the data",
        "starved expert: experts[1] saw 1 tokens, its siblings 50: it was given all tokens of the data",
        "and 11 more starved experts",
    ]


def test_blocks_whose_formats_ask_for_no_data_are_not_starved(make_config, specs):
    """The second block's inputs are never looked at, which is no lack of tokens."""
    model = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(16, 16) for _ in range(2))})
    model.forward = lambda x: model["blocks"][1](model["blocks"][0](x))
    rules = {"*weight_quantizer": "fp8", "blocks.0.input_quantizer": "fp8", "blocks.1.input_quantizer": "fp8_row"}
    batch = torch.ones(4, 16)
    plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
    model, _ = convert(model, plan, specs)
    steps = resolve_algorithms(plan.algorithm, {spec.name: spec for spec in builtin_algorithms()})
    assert run_algorithms(model, plan, steps, as_forward_loop([batch])) is None
