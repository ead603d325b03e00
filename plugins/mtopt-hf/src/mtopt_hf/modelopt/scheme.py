"""From the slots of a weight and its input to their spelling, or to what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtcore.plan import Extra, ModulePlan, Plan, SlotPlan
from mtopt_hf.checkpoint.attention import attention_notes, query_slots
from mtopt_hf.checkpoint.pairs import LINEAR, Pair, pairs_of
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.checkpoint.some import some
from mtopt_hf.modelopt.spelling import CACHES, SPELLINGS, Spelling, spellings_of
from mtopt_hf.served import Stored, support

DIALECT = "modelopt"


def spelling_of(weight: SlotPlan, given: SlotPlan | None) -> Spelling:
    """The spelling of slots that `check_plan` found nothing wrong with."""
    mode = None if given is None else given.mode
    found = spellings_of(weight.format, None if given is None else given.format)
    return next(spelling for spelling in found if spelling.mode == mode)


def algo_of(spelling: Spelling, module: ModulePlan) -> str:
    """The algorithm of a module that is spelled so, with what else it holds."""
    if module.low_rank and spelling.branched_algo is not None:
        return spelling.branched_algo
    if module.pre_quant_scale and spelling.scaled_algo is not None:
        return spelling.scaled_algo
    return spelling.algo


def holds(module: ModulePlan, extra: Extra) -> bool:
    """Whether the dialect has a place for this beside the codes of a module."""
    for pair in pairs_of(module):
        if pair.weight is None or pair.experts is not None:
            return False
        found = spellings_of(pair.weight.format, None if pair.input is None else pair.input.format)
        algos = [s.branched_algo if extra == "low_rank" else s.scaled_algo for s in found]
        if not any(algos):
            return False
    return module.spec == LINEAR


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    return plan_problems(plan, DIALECT, _pair_problems, CACHES)


def client_problems(client: str, plan: Plan) -> Sequence[str]:
    """What keeps a client from running a plan that the dialect can express, with the modules that have it."""
    found: dict[str, list[str]] = {}
    for module in plan.quantized:
        for pair in pairs_of(module):
            assert pair.weight is not None
            spelling = spelling_of(pair.weight, pair.input)
            algo = algo_of(spelling, module)
            experts, arguments = pair.experts is not None, {"group_size": spelling.group_size}
            found_out = support(client, Stored(DIALECT, algo.upper(), arguments, experts=experts))
            if found_out.runs is False:
                called = f"experts in {algo}" if experts else algo
                problem = f"{client} does not run {called} of {DIALECT} checkpoints ({found_out.how})"
                found.setdefault(problem, []).append(module.name)
    return [f"{some(names)}: {problem}" for problem, names in found.items()]


def notes(plan: Plan) -> Sequence[str]:
    """What the dialect adds or says in another way than the plan."""
    pairs = [(module, pair) for module in plan.quantized for pair in pairs_of(module)]
    spelled = [spelling_of(pair.weight, pair.input) for _, pair in pairs if pair.weight is not None]
    found = []
    if any(spelling.algo == "fp8_pb_wo" for spelling in spelled):
        found.append("fp8_pb_wo is called weight-only, but servers round its inputs to FP8 in runs of 128 as well")
    if any(spelling.smoothed for spelling in spelled):
        found.append("a pre_quant_scale of ones is added to layers without one, for TensorRT-LLM demands it")
    found += attention_notes(plan, DIALECT, CACHES)
    if query_slots(plan, CACHES):
        found.append("scales of queries (q_scale) are for vLLM alone; TensorRT-LLM looks for none")
    if any(module.pre_quant_scale for module, _ in pairs):
        found.append("scales of inputs are rounded to the dtype of the weights, which clients demand")
    return found


def _pair_problems(pair: Pair) -> Iterator[str]:
    weight, given = pair.weight, pair.input
    assert weight is not None
    found = spellings_of(weight.format, None if given is None else given.format)
    if not found:
        yield _unknown(weight, given)
        return
    if given is not None and given.mode not in {spelling.mode for spelling in found}:
        modes = " or ".join(sorted({str(spelling.mode) for spelling in found}))
        yield f"inputs in {given.format.name} are {modes} in {DIALECT}, not {given.mode} ({given.rule})"
        return
    yield from _shape_problems(pair, spelling_of(weight, given))


def _shape_problems(pair: Pair, spelling: Spelling) -> Iterator[str]:
    assert pair.weight is not None
    what = f"format {pair.weight.format.name} ({pair.weight.rule}) needs in {DIALECT}; exclude it"
    wide = pair.weight.format.block.cols
    if wide > 1 and pair.cols % wide:
        yield f"in_features {pair.cols} is not a multiple of {wide}, which {what}"
    high = 2 if spelling.layout == "int4" else pair.weight.format.block.rows
    if high > 1 and pair.rows % high:
        yield f"out_features {pair.rows} is not a multiple of {high}, which {what}"


def _unknown(weight: SlotPlan, given: SlotPlan | None) -> str:
    beside = "inputs that are not quantized" if given is None else f"inputs in {given.format.name} ({given.rule})"
    known = dict.fromkeys(
        f"{s.weight.name} + {s.input.name}" if s.input is not None else f"{s.weight.name} alone" for s in SPELLINGS
    )
    return (
        f"format {weight.format.name} ({weight.slot}, {weight.rule}) with {beside} cannot be spelled in {DIALECT}; "
        f"it has {', '.join(known)}"
    )
