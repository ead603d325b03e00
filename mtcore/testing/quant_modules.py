"""QuantModuleContract: what every quantized layer promises."""

from __future__ import annotations

import copy
from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtcore.formats import PER_TENSOR, Float32Element, IntElement, Scale, TensorFormat
from mtcore.nn import QuantModule, QuantModuleSpec, TensorQuantizer, match_spec
from mtcore.recipe.setting import SLOTS
from mtcore.testing.compare import assert_same_bits
from mtcore.trace import TraceInputs

FORMAT = TensorFormat("contract_int8", IntElement(8, narrow=True), (Scale(Float32Element(), PER_TENSOR),))


class Spy(nn.Module):
    """A quantizer's place: remembers what passes, and passes on what `change` makes of it."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return x if self.factor == 1.0 else x * self.factor


class QuantModuleContract:
    """Override the fixtures `spec`, `module` and `inputs`.

    `module` is a fresh layer of the original class with parameters that are not zero; `inputs` are those of one
    forward: a tensor, a tuple of arguments, or a dict of keyword arguments.
    """

    @pytest.fixture
    def spec(self) -> QuantModuleSpec:
        raise NotImplementedError("override the fixture `spec`: the record that is tested")

    @pytest.fixture
    def module(self) -> nn.Module:
        raise NotImplementedError("override the fixture `module`: a fresh layer of the original class")

    @pytest.fixture
    def inputs(self) -> object:
        raise NotImplementedError("override the fixture `inputs`: those of one forward of the module")

    def test_the_quantized_class_is_both_a_quant_module_and_the_original(self, spec: QuantModuleSpec) -> None:
        assert issubclass(spec.quantized, QuantModule), f"{spec.quantized} is no QuantModule"
        assert issubclass(spec.quantized, spec.original), f"{spec.quantized} is no {spec.original}"

    def test_the_record_matches_the_module_and_not_its_quantized_form(
        self, spec: QuantModuleSpec, module: nn.Module
    ) -> None:
        match = match_spec(module, [spec])
        assert match.spec is spec, match.reason
        again = match_spec(twin_of(spec, module), [spec]).spec
        assert again is None, f"{spec.name!r} matches its own quantized form, which would be quantized twice"

    def test_the_slots_are_what_the_record_says(self, spec: QuantModuleSpec, module: nn.Module) -> None:
        for declared in spec.weights:
            found = [n for n in module._parameters if fnmatchcase(n, declared.parameter)]
            assert found, f"the module has no parameter {declared.parameter!r}"
        for weight in spec.weights_of(parameters_of(module)):
            parameter = module._parameters[weight.parameter]
            assert parameter is not None
            assert weight.channel_axis < parameter.dim(), f"{weight.parameter}: no axis {weight.channel_axis}"
        kinds = {slot if slot in SLOTS else slot.rpartition("_")[2] for slot in spec.activations}
        assert kinds <= set(SLOTS), f"activations are among {SLOTS}, or end in _ and one of them"

    def test_with_nothing_quantized_the_output_is_the_originals(
        self, spec: QuantModuleSpec, module: nn.Module, inputs: object
    ) -> None:
        assert_same_outputs(
            run(twin_of(spec, module), inputs), run(module, inputs), "output with nothing quantized"
        )

    def test_the_parameters_are_shared_not_copied(self, spec: QuantModuleSpec, module: nn.Module) -> None:
        twin = twin_of(spec, module)
        theirs = dict(module.named_parameters())
        for name, parameter in twin.named_parameters():
            assert parameter is theirs.get(name), f"parameter {name!r} is not the original's own object"
        assert list(twin.state_dict()) == list(module.state_dict()), "its state dict is not the original's"

    def test_every_quantizer_sees_its_tensor(
        self, spec: QuantModuleSpec, module: nn.Module, inputs: object
    ) -> None:
        spies = {slot: Spy() for slot in slots_of(spec, module)}
        run(twin_of(spec, module, **spies), inputs)
        for slot, spy in spies.items():
            assert spy.seen, f"the forward never calls the quantizer of slot {slot!r}"
        for weight in spec.weights_of(parameters_of(module)):
            parameter = module._parameters[weight.parameter]
            assert parameter is not None
            seen = spies[weight.parameter].seen[0]
            assert_same_bits(seen.detach(), parameter.detach(), f"what the quantizer of {weight.parameter!r} sees")

    def test_what_every_quantizer_returns_is_used(
        self, spec: QuantModuleSpec, module: nn.Module, inputs: object
    ) -> None:
        plain = run(module, inputs)
        for slot in slots_of(spec, module):
            changed = run(twin_of(spec, module, **{slot: Spy(-3.0)}), inputs)
            assert not all(map(torch.equal, changed, plain)), f"the forward ignores the quantizer of slot {slot!r}"

    def test_a_quantized_weight_gives_what_the_original_gives_with_that_weight(
        self, spec: QuantModuleSpec, module: nn.Module, inputs: object
    ) -> None:
        quantizers = weight_quantizers(spec, module)
        expected = copy.deepcopy(module)
        for slot, quantizer in quantizers.items():
            parameter = expected._parameters[slot]
            assert parameter is not None
            with torch.no_grad():
                parameter.copy_(quantizer(parameter))
        twin = twin_of(spec, module, **quantizers)
        assert_same_outputs(run(twin, inputs), run(expected, inputs), "output with quantized weights")

    def test_gradients_reach_the_shared_weights(
        self, spec: QuantModuleSpec, module: nn.Module, inputs: object
    ) -> None:
        for output in run(twin_of(spec, module, **weight_quantizers(spec, module)), inputs, grad=True):
            if output.requires_grad:
                output.float().square().sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        for weight in spec.weights_of(parameters_of(module)):
            parameter = module._parameters[weight.parameter]
            assert parameter is not None
            assert parameter.grad is not None, f"no gradient reaches {weight.parameter!r}"

    def test_a_deep_copy_works_and_shares_nothing(
        self, spec: QuantModuleSpec, module: nn.Module, inputs: object
    ) -> None:
        twin = twin_of(spec, module, **weight_quantizers(spec, module))
        other = copy.deepcopy(twin)
        assert_same_outputs(run(other, inputs), run(twin, inputs), "output of a deep copy")
        shared = {id(p) for p in twin.parameters()} & {id(p) for p in other.parameters()}
        assert not shared, "a deep copy shares parameters with its original"


def parameters_of(module: nn.Module) -> list[str]:
    """Names of the parameters that a module itself holds."""
    return [name for name, parameter in module._parameters.items() if parameter is not None]


def slots_of(spec: QuantModuleSpec, module: nn.Module) -> tuple[str, ...]:
    """The slots of a module: its weights, then its activations."""
    return (*(weight.parameter for weight in spec.weights_of(parameters_of(module))), *spec.activations)


def weight_quantizers(spec: QuantModuleSpec, module: nn.Module) -> dict[str, nn.Module]:
    """A quantizer in 8-bit integers for every weight."""
    weights = spec.weights_of(parameters_of(module))
    return {w.parameter: TensorQuantizer(FORMAT, "static", view=w.view(module)) for w in weights}


def twin_of(spec: QuantModuleSpec, module: nn.Module, **quantizers: nn.Module) -> QuantModule:
    """The quantized twin of a module; slots without a quantizer hold the identity."""
    assert issubclass(spec.quantized, QuantModule)
    return spec.quantized.from_original(
        module, {slot: nn.Identity() for slot in slots_of(spec, module)} | quantizers
    )


def run(module: nn.Module, inputs: object, *, grad: bool = False) -> list[Tensor]:
    """The tensors that one forward returns, nested ones in order; seeded, so that dropout agrees."""
    given = TraceInputs.of(inputs)
    torch.manual_seed(0)
    with torch.set_grad_enabled(grad):
        return list(_tensors(module(*given.args, **given.kwargs)))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in items for tensor in _tensors(item)]


def assert_same_outputs(actual: list[Tensor], expected: list[Tensor], what: str) -> None:
    """Every tensor of two forwards agrees bit for bit."""
    assert len(actual) == len(expected), f"{what}: {len(actual)} tensors, expected {len(expected)}"
    for one, other in zip(actual, expected, strict=True):
        assert_same_bits(one, other, what)
