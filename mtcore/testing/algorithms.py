"""AlgorithmContract: what every calibration algorithm promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from pydantic import BaseModel, ValidationError
from torch import nn

from mtcore.calibration import as_forward_loop
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun, ForwardLoop
from mtcore.calibration.statistics import Statistics, Wanted, gather
from mtcore.errors import CalibrationError
from mtcore.formats import PER_TENSOR, Float32Element, IntElement, Scale, TensorFormat
from mtcore.nn import QuantModule, TensorQuantizer
from mtcore.plan import Plan
from mtcore.quantization.convert import convert
from mtcore.testing.compare import assert_same_bits, must_raise
from mtcore.testing.toy import ToyModel, toy_batches, toy_config, toy_plan, toy_specs

FORMAT = TensorFormat("contract_int8", IntElement(8, narrow=True), (Scale(Float32Element(), PER_TENSOR),))


class AlgorithmContract:
    """Override the fixture `algorithm`; and, where they differ, `options`, `weight_format`, `input_format` and
    `changes_weights`.

    `options` are as a recipe writes them. Both formats are 8-bit integers per tensor; `input_format` may be None
    for an algorithm that looks at weights alone.
    """

    changes_weights = False
    """Whether the algorithm writes into the weights; say True in a subclass where it does."""

    @pytest.fixture
    def algorithm(self) -> AlgorithmSpec:
        raise NotImplementedError("override the fixture `algorithm`: the record that is tested")

    @pytest.fixture
    def options(self) -> Mapping[str, Any]:
        return {}

    @pytest.fixture
    def weight_format(self) -> TensorFormat:
        return FORMAT

    @pytest.fixture
    def input_format(self) -> TensorFormat | None:
        return FORMAT

    @pytest.fixture
    def case(
        self,
        algorithm: AlgorithmSpec,
        options: Mapping[str, Any],
        weight_format: TensorFormat,
        input_format: TensorFormat | None,
    ) -> Case:
        return Case(algorithm, algorithm.options.model_validate(dict(options)), weight_format, input_format)

    def test_an_unknown_option_is_refused(self, algorithm: AlgorithmSpec, options: Mapping[str, Any]) -> None:
        with must_raise(ValidationError, "set extra='forbid' in the options, so that a misspelling is found"):
            algorithm.options.model_validate({**options, "no_such_option_exists": 1})

    def test_the_summary_is_one_line(self, algorithm: AlgorithmSpec) -> None:
        assert algorithm.summary.strip(), "listings show one line of summary"
        assert "\n" not in algorithm.summary, "the summary has several lines"

    def test_afterwards_every_quantizer_is_calibrated_and_the_model_runs(self, case: Case) -> None:
        case.calibrate()
        missing = [name for name, quantizer in case.quantizers().items() if not quantizer.calibrated]
        assert not missing, f"not calibrated, set_amax was never called: {', '.join(missing)}"
        output = case.model(toy_batches()[0])
        assert bool(output.isfinite().all()), "the calibrated model gives values that are not finite"

    def test_it_is_deterministic(self, case: Case) -> None:
        case.calibrate()
        first = {name: value.clone() for name, value in case.model.state_dict().items()}
        again = case.again()
        again.calibrate()
        assert first.keys() == again.model.state_dict().keys(), "a second run leaves other tensors behind"
        for name, value in again.model.state_dict().items():
            assert_same_bits(value, first[name], f"{name} of a second run")

    def test_the_statistics_that_it_declares_are_enough(self, case: Case) -> None:
        if case.wanted() is None:
            return
        case.calibrate()
        again = case.again()
        again.calibrate_from_statistics()
        for name, value in again.model.state_dict().items():
            assert_same_bits(value, case.model.state_dict()[name], f"{name}, decided from statistics alone")

    def test_it_leaves_no_trace_but_its_results(self, case: Case) -> None:
        before = case.traces()
        case.calibrate()
        assert_put_back(case.traces(), before)

    def test_weights_change_only_if_it_says_so(self, case: Case) -> None:
        before = {name: value.clone() for name, value in case.model.named_parameters()}
        case.calibrate()
        changed = [name for name, value in case.model.named_parameters() if not torch.equal(value, before[name])]
        assert bool(changed) <= self.changes_weights, f"it changed {', '.join(changed)}; set changes_weights = True"

    def test_slots_of_a_scale_group_share_one_amax(self, case: Case) -> None:
        case.calibrate()
        assert case.plan.groups, "the toy model has a group; the trace did not find it"
        quantizers = case.quantizers()
        for group in case.plan.groups:
            if group.slot == "weight" and not case.weight_format.needs_tensor_amax:
                continue
            members = [quantizers[f"{module}.{group.slot}"] for module in group.modules]
            amaxes = [quantizer.amax if q_outer(quantizer) is None else q_outer(quantizer) for quantizer in members]
            for amax in amaxes[1:]:
                assert amax is not None
                assert amaxes[0] is not None
                assert_same_bits(amax, amaxes[0], f"amax in the group {group.name}")

    def test_data_that_it_needs_and_does_not_get_is_a_clear_error(self, case: Case) -> None:
        if case.algorithm.needs_data(case.plan):
            with must_raise(CalibrationError, "without the data that needs_data asks for"):
                case.calibrate(None)
        else:
            case.calibrate(None)

    def test_data_that_are_not_finite_are_a_clear_error(self, case: Case) -> None:
        if not case.algorithm.needs_data(case.plan):
            return
        bad = toy_batches()
        bad[1][3, 5] = torch.nan
        with must_raise(CalibrationError, "a NaN in the data would become the scale of every value"):
            case.calibrate(as_forward_loop(bad))

    def test_a_failing_forward_leaves_no_trace(self, case: Case) -> None:
        if not case.algorithm.needs_data(case.plan):
            return
        before = case.traces()

        def fails(model: nn.Module) -> None:
            model(toy_batches()[0])
            raise TimeoutError("the data loader gave up")

        with must_raise(TimeoutError, "the error of a data loader comes through as it is"):
            case.calibrate(fails)
        assert_put_back(case.traces(), before)


class Case:
    """A converted toy model and an algorithm to run on it."""

    def __init__(
        self, algorithm: AlgorithmSpec, options: BaseModel, weight: TensorFormat, inputs: TensorFormat | None
    ) -> None:
        self.algorithm, self.options = algorithm, options
        self.weight_format, self.input_format = weight, inputs
        model = ToyModel()
        self.plan: Plan = toy_plan(model, toy_config(weight, inputs, algorithm.name))
        if algorithm.plan is not None:
            self.plan = algorithm.plan(self.plan, options, lambda module, extra: True)
        assert not self.plan.errors, self.plan.errors
        self.model, _ = convert(model, self.plan, toy_specs())

    def again(self) -> Case:
        """The same, from the start."""
        return Case(self.algorithm, self.options, self.weight_format, self.input_format)

    def calibrate(self, loop: ForwardLoop | None = as_forward_loop(toy_batches())) -> None:  # noqa: B008  a constant
        """Run the algorithm."""
        self.algorithm.run(CalibrationRun(self.model, self.plan, loop), self.options)

    def wanted(self) -> Wanted | None:
        """The statistics from which the algorithm decides; None where it runs the data itself."""
        if self.algorithm.statistics is None:
            return None
        return self.algorithm.statistics(CalibrationRun(self.model, self.plan, None), self.options)

    def calibrate_from_statistics(self) -> None:
        """Run the algorithm without data, on the statistics that it declares."""
        wanted = self.wanted()
        assert wanted is not None
        loop = as_forward_loop(toy_batches())
        known = gather(self.model, loop, wanted, self.plan.shared_inputs)
        self.algorithm.run(
            CalibrationRun(self.model, self.plan, None, gathered=Statistics(None, known)), self.options
        )

    def quantizers(self) -> dict[str, TensorQuantizer]:
        """Quantizers by `<module>.<slot>`."""
        return {
            f"{name}.{slot}": quantizer
            for name, module in self.model.named_modules()
            if isinstance(module, QuantModule)
            for slot, quantizer in module.quantizers()
        }

    def traces(self) -> dict[str, dict[str, object]]:
        """What a run must put back: modes, hooks, observers, switches and gradients' flags."""
        return {
            "training": {name: module.training for name, module in self.model.named_modules()},
            "hooks": {
                name: len(module._forward_hooks) + len(module._forward_pre_hooks)
                for name, module in self.model.named_modules()
            },
            "quantizers": {
                name: (quantizer.enabled, quantizer.observer) for name, quantizer in self.quantizers().items()
            },
            "requires_grad": {name: p.requires_grad for name, p in self.model.named_parameters()},
        }


def assert_put_back(after: Mapping[str, Mapping[str, object]], before: Mapping[str, Mapping[str, object]]) -> None:
    """Fail where something is not as it was before the run."""
    for kind, states in before.items():
        for name, state in states.items():
            found = after[kind].get(name)
            assert found == state, f"{kind} of {name!r} were {state} before the run and are {found} after it"


def q_outer(quantizer: TensorQuantizer) -> torch.Tensor | None:
    """The magnitude behind the outer scale, where the format has one."""
    return quantizer.outer_amax
