"""The built-in algorithms keep the contract of algorithms; and the contract finds what is wrong with a bad one."""

import dataclasses

import pytest
from pydantic import BaseModel

from mtcore.calibration.algorithms.gptq import GPTQ
from mtcore.calibration.algorithms.max import MAX, MaxOptions, run_max
from mtcore.calibration.builtin import builtin_algorithms
from mtcore.formats.catalog import INT8_TENSOR, NVFP4
from mtcore.testing import AlgorithmContract
from mtcore.testing.algorithms import Case

WRITE_WEIGHTS = ("smoothquant", "awq", "gptq", "autoround", "rotate", "svdquant")


class TestBuiltinAlgorithms(AlgorithmContract):
    @pytest.fixture(
        params=[s for s in builtin_algorithms() if s.name not in WRITE_WEIGHTS], ids=lambda spec: spec.name
    )
    def algorithm(self, request):
        return request.param


class TestBuiltinAlgorithmsThatWriteWeights(AlgorithmContract):
    changes_weights = True

    @pytest.fixture(params=[s for s in builtin_algorithms() if s.name in WRITE_WEIGHTS], ids=lambda spec: spec.name)
    def algorithm(self, request):
        return request.param


class TestBuiltinAlgorithmsInTwoLevels(AlgorithmContract):
    @pytest.fixture(
        params=[s for s in builtin_algorithms() if s.name not in WRITE_WEIGHTS], ids=lambda spec: spec.name
    )
    def algorithm(self, request):
        return request.param

    @pytest.fixture
    def weight_format(self):
        return NVFP4

    @pytest.fixture
    def input_format(self):
        return NVFP4


class TestGptqFromStatistics(AlgorithmContract):
    changes_weights = True

    @pytest.fixture
    def algorithm(self):
        return GPTQ

    @pytest.fixture
    def options(self):
        return {"sequential": "none"}


class TestMaxOnWeightsAlone(AlgorithmContract):
    @pytest.fixture
    def algorithm(self):
        return MAX

    @pytest.fixture
    def input_format(self):
        return None


def case(run):
    return Case(dataclasses.replace(MAX, run=run), MaxOptions(), INT8_TENSOR, INT8_TENSOR)


def does_nothing(run, options):
    pass


def forgets_the_groups(run, options):
    run_max(run, options)
    for module in run.plan.groups[0].modules:
        weight = run.model.get_submodule(module).weight
        run.model.get_submodule(module).weight_quantizer.set_amax(weight.abs().amax().view(1, 1), None)


def leaves_a_hook(run, options):
    run_max(run, options)
    run.model.norm.register_forward_hook(lambda *args: None)


def trains(run, options):
    run_max(run, options)
    run.model.eval()


def doubles_a_weight(run, options):
    run_max(run, options)
    run.model.down.weight.data.mul_(2)


def counts(run, options, seen=[]):  # noqa: B006  it remembers on purpose
    seen.append(1)
    run_max(run, options)
    quantizer = run.model.down.weight_quantizer
    quantizer.set_amax(quantizer.amax * len(seen), None)


@pytest.mark.parametrize(
    ("run", "test", "complaint"),
    [
        (
            does_nothing,
            "test_afterwards_every_quantizer_is_calibrated_and_the_model_runs",
            "set_amax was never called: gate.input",
        ),
        (forgets_the_groups, "test_slots_of_a_scale_group_share_one_amax", "first differing element"),
        (leaves_a_hook, "test_it_leaves_no_trace_but_its_results", "hooks"),
        (trains, "test_it_leaves_no_trace_but_its_results", "training"),
        (doubles_a_weight, "test_weights_change_only_if_it_says_so", "it changed down.weight"),
        (counts, "test_it_is_deterministic", "down.weight_quantizer.amax of a second run"),
    ],
)
def test_an_algorithm_that_breaks_the_contract_is_found(run, test, complaint):
    with pytest.raises(AssertionError, match=complaint):
        getattr(AlgorithmContract(), test)(case(run))


def test_an_algorithm_that_does_without_its_data_is_found():
    with pytest.raises(AssertionError, match="no CalibrationError was raised: without the data"):
        AlgorithmContract().test_data_that_it_needs_and_does_not_get_is_a_clear_error(case(does_nothing))


def test_options_that_take_anything_are_found():
    class Loose(BaseModel): ...

    with pytest.raises(AssertionError, match="no ValidationError was raised: set extra='forbid'"):
        AlgorithmContract().test_an_unknown_option_is_refused(dataclasses.replace(MAX, options=Loose), {})
