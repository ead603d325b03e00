"""Every quantized layer of the catalog: the contract, a hand-written reference in every format, states, undo."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from mtcore.formats import builtin_formats
from mtcore.nn import TensorQuantizer, builtin_quant_modules
from mtcore.numerics import dynamic_qparams, fake_quantize
from mtcore.plan import make_plan
from mtcore.quantization import convert
from mtcore.recipe.setting import QuantizeConfig, SlotRule, SlotSetting
from mtcore.testing import QuantModuleContract

SPECS = {spec.name: spec for spec in builtin_quant_modules()}
FORMATS = {fmt.name: fmt for fmt in builtin_formats()}


@dataclass(frozen=True)
class Case:
    """A layer and the shapes of its inputs."""

    spec: str
    make: Callable[[], nn.Module]
    shapes: tuple[tuple[Any, ...], ...]
    integers: bool = False

    def module(self) -> nn.Module:
        torch.manual_seed(0)
        module = self.make()
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        return module

    def inputs(self) -> tuple[Any, ...]:
        generator = torch.Generator().manual_seed(1)
        if self.integers:
            return tuple(torch.randint(8, shape, generator=generator) for shape in self.shapes)
        return tuple(
            tuple(torch.randn(part, generator=generator) for part in shape)
            if isinstance(shape[0], tuple)
            else torch.randn(shape, generator=generator)
            for shape in self.shapes
        )


CASES = [
    Case("nn.Linear", lambda: nn.Linear(32, 6), ((4, 32),)),
    Case("nn.Bilinear", lambda: nn.Bilinear(4, 8, 3), ((5, 4), (5, 8))),
    Case("nn.Conv1d", lambda: nn.Conv1d(8, 6, 3, padding=1, padding_mode="circular"), ((2, 8, 9),)),
    Case("nn.Conv2d", lambda: nn.Conv2d(8, 6, 3, groups=2, stride=2), ((2, 8, 7, 7),)),
    Case("nn.Conv3d", lambda: nn.Conv3d(4, 3, 2), ((4, 3, 4, 5),)),
    Case("nn.ConvTranspose1d", lambda: nn.ConvTranspose1d(8, 6, 3, groups=2), ((2, 8, 5),)),
    Case("nn.ConvTranspose2d", lambda: nn.ConvTranspose2d(8, 6, 3, stride=2, output_padding=1), ((2, 8, 5, 4),)),
    Case("nn.ConvTranspose3d", lambda: nn.ConvTranspose3d(4, 3, 2), ((1, 4, 3, 3, 3),)),
    Case("nn.LSTM", lambda: nn.LSTM(8, 6, batch_first=True), ((2, 5, 8),)),
    Case("nn.GRU", lambda: nn.GRU(8, 6), ((5, 2, 8),)),
    Case("nn.RNN", lambda: nn.RNN(8, 6, nonlinearity="relu"), ((5, 8),)),
    Case("nn.LSTMCell", lambda: nn.LSTMCell(8, 6), ((2, 8), ((2, 6), (2, 6)))),
    Case("nn.GRUCell", lambda: nn.GRUCell(8, 6), ((2, 8), (2, 6))),
    Case("nn.RNNCell", lambda: nn.RNNCell(8, 6), ((8,), (6,))),
    Case("nn.MultiheadAttention", lambda: nn.MultiheadAttention(8, 2), ((5, 2, 8), (4, 2, 8), (4, 2, 8))),
    Case(
        "nn.MultiheadAttention",
        lambda: nn.MultiheadAttention(16, 2, bias=False, kdim=32, vdim=48, add_bias_kv=True),
        ((5, 2, 16), (4, 2, 32), (4, 2, 48)),
    ),
    Case("nn.Embedding", lambda: nn.Embedding(8, 16, padding_idx=1), ((2, 5),), integers=True),
    Case("nn.EmbeddingBag", lambda: nn.EmbeddingBag(8, 16, mode="sum"), ((2, 5),), integers=True),
    Case("nn.LayerNorm", lambda: nn.LayerNorm(8), ((2, 5, 8),)),
    Case("nn.RMSNorm", lambda: nn.RMSNorm(8), ((2, 5, 8),)),
    Case("nn.GroupNorm", lambda: nn.GroupNorm(2, 8), ((2, 8, 5),)),
    Case("nn.SyncBatchNorm", lambda: nn.SyncBatchNorm(8).eval(), ((4, 8, 3),)),
    *(
        Case(f"nn.{name}Norm{n}d", lambda n=n, name=name: getattr(nn, f"{name}Norm{n}d")(4), ((3, 4, *[5] * n),))
        for n in (1, 2, 3)
        for name in ("Batch", "Instance")
    ),
    *(Case(f"nn.{k}Pool{n}d", lambda k=k, n=n: getattr(nn, f"{k}Pool{n}d")(2), ((3, 4, *[6] * n),))
      for n in (1, 2, 3) for k in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")),
    *(Case(f"nn.{k}", lambda k=k: getattr(nn, k)(), ((3, 8),))
      for k in ("LeakyReLU", "ReLU", "GELU", "SiLU", "Hardswish", "Sigmoid", "Tanh")),
]  # fmt: skip


def case_id(case: Case) -> str:
    return case.spec


def test_every_record_has_a_case():
    assert {case.spec for case in CASES} == {name for name, spec in SPECS.items() if spec.found_by == "type"}


class TestContract(QuantModuleContract):
    @pytest.fixture(params=CASES, ids=case_id)
    def case(self, request):
        return request.param

    @pytest.fixture
    def spec(self, case):
        return SPECS[case.spec]

    @pytest.fixture
    def module(self, case):
        return case.module()

    @pytest.fixture
    def inputs(self, case):
        return case.inputs()


def config_for(case: Case, fmt_name: str) -> QuantizeConfig:
    """Everything but outputs in one format, scales at run time."""
    fmt = FORMATS[fmt_name]
    rules = [
        SlotRule("*", SlotSetting(fmt, "static"), True, "rule #1", case.spec, "weight"),
        SlotRule("*_quantizer", SlotSetting(fmt, "dynamic"), True, "rule #2", case.spec, "activation"),
        *(SlotRule(f"*{slot}_quantizer", None, False, f"rule off {slot}") for slot in OFF),
    ]
    return QuantizeConfig("test", tuple(rules), max_unquantized=1.0)


OFF = ("output", "hidden_input", "q", "k", "v", "softmax", "out_proj.weight", "out_proj.input")
"""Left out where the reference is the original layer on quantized weights and inputs."""


def converted(case: Case, fmt_name: str) -> tuple[nn.Module, Any]:
    model = nn.ModuleDict({"layer": case.module()})
    plan = make_plan(model, config_for(case, fmt_name), SPECS)
    _, journal = convert(model, plan, SPECS)
    return model, journal


def outputs(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [] if value is None else [t for item in value for t in outputs(item)]


def by_hand(x: torch.Tensor, fmt, channel_axis: int | None, feature_axis: int, groups: int = 1) -> torch.Tensor:
    """Fake quantization spelt out: move the axis, flatten, quantize rows, put back."""
    if channel_axis is None:
        moved = x.movedim(feature_axis, -1) if x.dim() > 1 else x
        fake = fake_quantize(rows := moved.reshape(-1, moved.shape[-1]), dynamic_qparams(rows, fmt))
        return fake.reshape(moved.shape).movedim(-1, feature_axis) if x.dim() > 1 else fake.reshape(x.shape)
    if groups == 1:
        moved = x.movedim(channel_axis, 0)
        fake = fake_quantize(rows := moved.reshape(len(moved), -1), dynamic_qparams(rows, fmt))
        return fake.reshape(moved.shape).movedim(0, channel_axis)
    parts = [part.movedim(1, 0) for part in x.chunk(groups)]  # each [out / groups, in / groups, …]
    rows = torch.cat([part.reshape(len(part), -1) for part in parts])
    fakes = fake_quantize(rows, dynamic_qparams(rows, fmt)).chunk(groups)
    return torch.cat([fake.reshape(part.shape).movedim(0, 1) for fake, part in zip(fakes, parts, strict=True)])


def reference(case: Case, fmt_name: str) -> list[torch.Tensor]:
    """The original layer with weights and inputs that were quantized by hand."""
    spec, fmt = SPECS[case.spec], FORMATS[fmt_name]
    module = case.module()
    for weight in spec.weights_of([n for n, p in module._parameters.items() if p is not None]):
        parameter = module._parameters[weight.parameter]
        groups = module.groups if weight.grouped else 1
        parameter.data = by_hand(parameter.data, fmt, weight.channel_axis, 0, groups)
    inputs = list(case.inputs())
    count = {"nn.Bilinear": 2, "nn.MultiheadAttention": 3}.get(case.spec, 0 if case.integers else 1)
    for i in range(count):
        inputs[i] = by_hand(inputs[i], fmt, None, spec.feature_axis)
    return outputs(module(*inputs))


PAIRS = [
    *((case, name) for case in CASES for name in ("fp8", "nvfp4", "int8_row", "int4_b32_asym")),
    *(
        (case, name)
        for case in CASES
        for name in FORMATS
        if case.spec in ("nn.Linear", "nn.Conv2d", "nn.ConvTranspose1d", "nn.LSTM", "nn.Embedding")
    ),
]


@pytest.mark.parametrize(("case", "fmt"), PAIRS, ids=lambda v: v if isinstance(v, str) else v.spec)
def test_a_converted_layer_is_the_original_on_quantized_weights_and_inputs(case, fmt):
    model, _ = converted(case, fmt)
    for actual, expected in zip(outputs(model["layer"](*case.inputs())), reference(case, fmt), strict=True):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_with_its_quantizers_off_a_layer_is_the_original_bit_for_bit(case):
    model, journal = converted(case, "fp8")
    quantized = model["layer"]
    assert type(quantized).__name__.startswith("Quant")
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.disable()
    plain = outputs(case.module()(*case.inputs()))
    assert all(map(torch.equal, outputs(quantized(*case.inputs())), plain))
    journal.undo()
    assert type(model["layer"]) is type(case.module())
    assert all(map(torch.equal, outputs(model["layer"](*case.inputs())), plain))


@pytest.mark.parametrize("case", [case for case in CASES if SPECS[case.spec].weights], ids=case_id)
def test_the_state_of_a_converted_layer_loads_into_another(case):
    model, _ = converted(case, "fp8")
    for module in model.modules():
        if isinstance(module, TensorQuantizer):
            module.set_amax(torch.tensor([[1.5]]), None)
    other, _ = converted(case, "fp8")
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    inputs = case.inputs()
    assert all(map(torch.equal, outputs(other["layer"](*inputs)), outputs(model["layer"](*inputs))))


@pytest.mark.parametrize("case", [case for case in CASES if SPECS[case.spec].by_name_only], ids=case_id)
def test_a_rule_for_all_modules_does_not_reach_layers_that_must_be_named(case):
    model = nn.ModuleDict({"layer": case.module(), "body": nn.Linear(32, 32)})
    setting = SlotSetting(FORMATS["fp8"], "dynamic")
    rules = tuple(
        SlotRule(f"*{slot}_quantizer", setting, True, "rule #1") for slot in ("weight", "input", "output")
    )
    plan = make_plan(model, QuantizeConfig("test", rules, max_unquantized=1.0), SPECS)
    assert [module.name for module in plan.quantized] == ["body"]
    named = (*rules, SlotRule("layer.*", setting, True, "rule #2"))
    plan = make_plan(model, QuantizeConfig("test", named, max_unquantized=1.0), SPECS)
    assert "layer" in [module.name for module in plan.quantized]
