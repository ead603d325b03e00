"""A calibration starts little more on a device than the model itself does, and hardly waits for it.

On a device every operation that is no view costs the host a launch, and a model of a few milliseconds a batch is as
fast as the host. So the launches are counted here, where no device is needed.
"""

from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mtcore.backends import COLUMN_STATISTICS
from mtcore.calibration import as_forward_loop, resolve_algorithms, run_algorithms
from mtcore.calibration.algorithms.max import MAX, share_amax
from mtcore.calibration.statistics import AMAX, Needs, gather
from mtcore.calibration.statistics.gather import largest_of
from mtcore.numerics import own_column_amax
from mtcore.plan import make_plan
from mtcore.quantization.convert import convert
from mtcore.recipe.setting import AlgorithmStep
from mtcore.trace import analyze

VALUES = 4
"""That the six linear layers of the two blocks read: gate and up read one."""


class Started(TorchDispatchMode):
    """Counts what a device would have to start: every operation but views and bare memory."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        bare = func in (torch.ops.aten.detach.default, torch.ops.aten.empty.memory_format)
        self.count += not (func.is_view or bare)
        return func(*args, **(kwargs or {}))


def launches(work: Callable[[], object]) -> int:
    with torch.no_grad(), Started() as started:
        work()
    return started.count


@pytest.fixture
def waits(monkeypatch) -> list[str]:
    """Grows by one whenever the host asks for values."""
    found: list[str] = []

    def telling(name: str) -> Callable[..., object]:
        plainly = getattr(torch.Tensor, name)

        def asked(tensor, *args):
            found.append(name)
            return plainly(tensor, *args)

        return asked

    for name in ("tolist", "item", "__bool__", "__float__", "__int__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, telling(name))
    return found


@pytest.fixture
def extra(model, batch, specs, make_config):
    """What one batch more takes beyond a forward of the plain model, when `needs` of every input are gathered."""
    forward = launches(lambda: model(batch))
    rules = {"*weight_quantizer": "nvfp4", "*input_quantizer": "nvfp4"}
    plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
    convert(model, plan, specs)
    inputs = [(f"{block}.{layer}", "input") for block in (0, 1) for layer in ("gate", "up", "down")]

    def gathered(batches: int, needs: Needs) -> int:
        loop = as_forward_loop([batch] * batches)
        return launches(lambda: gather(model, loop, dict.fromkeys(inputs, needs), plan.shared_inputs))

    return lambda batches, needs: gathered(batches + 1, needs) - gathered(batches, needs) - forward


@pytest.mark.parametrize("batches", [2, 9, 18], ids="{} batches".format)
def test_a_batch_costs_one_look_at_each_value_beyond_the_forward(extra, batch, batches):
    assert extra(batches, AMAX) == VALUES * launches(lambda: own_column_amax(batch))


@pytest.mark.parametrize("batches", [2, 9, 18], ids="{} batches".format)
def test_moments_of_all_values_are_added_in_one_launch(extra, batch, batches):
    look = launches(lambda: COLUMN_STATISTICS.reference(batch, True, False))
    assert extra(batches, Needs(moments=True)) == VALUES * look + 1


def test_the_host_waits_for_values_after_the_first_and_eighth_batch_and_at_the_end(extra, waits):
    extra(9, AMAX)
    assert waits == ["tolist"] * 6  # of two runs


def test_a_look_at_the_magnitudes_starts_as_much_for_many_values_as_for_two():
    values = [torch.full((8,), float(number)) for number in range(20)]
    few = launches(lambda: largest_of(values[:2]))
    assert launches(lambda: largest_of(values)) == few == 2
    assert [float(one) for one in largest_of(values)] == list(range(20))
    found = largest_of([None, torch.tensor([1.0, torch.nan]), torch.tensor([-1.0, -2.0, -3.0])])
    assert found[0] is None
    assert found[1].isnan()
    assert found[2] == -1


def test_many_groups_share_their_magnitudes_in_as_many_launches_as_one(model, batch, specs, make_config):
    rules = {"*weight_quantizer": "fp8", "*input_quantizer": "fp8"}
    plan = make_plan(model, make_config(rules), specs, analyze(model, batch))
    convert(model, plan, specs)
    steps = resolve_algorithms([AlgorithmStep("max")], {"max": MAX})
    run_algorithms(model, plan, steps, as_forward_loop([batch]))
    quantizers = {
        (planned.name, slot): quantizer
        for planned in plan.quantized
        for slot, quantizer in model.get_submodule(planned.name).quantizers()
    }
    assert len(plan.groups) == 4
    one = launches(lambda: share_amax(plan.groups[:1], quantizers))
    assert launches(lambda: share_amax(plan.groups, quantizers)) == one
