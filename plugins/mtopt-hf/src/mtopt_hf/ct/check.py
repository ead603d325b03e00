"""What keeps a plan from being written in the dialect, found before anything is calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtcore.formats.catalog import FP8
from mtcore.plan import Plan, SlotPlan
from mtopt_hf.checkpoint.attention import attention_notes, cache_slots
from mtopt_hf.checkpoint.pairs import STACKED, Pair, pairs_of
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.checkpoint.some import some
from mtopt_hf.ct.config import FLOATS_IN_BF16
from mtopt_hf.ct.scheme import scheme_of
from mtopt_hf.ct.spelling import CACHES, SPELLINGS, spelling_of
from mtopt_hf.served import Stored, kind_of, support

DIALECT = "compressed-tensors"


def check_plan(plan: Plan) -> Sequence[str]:
    """Problems of the plan, each with the modules that have it and what to do; empty if all can be written."""
    return plan_problems(plan, DIALECT, _pair_problems, CACHES)


def notes(plan: Plan) -> Sequence[str]:
    """What the dialect says in another way than the plan."""
    pairs = [pair for module in plan.quantized for pair in pairs_of(module)]
    layouts = {scheme_of(pair.weight, pair.input).layout for pair in pairs if pair.weight is not None}
    found = []
    if "nvfp4-pack-quantized" in layouts:
        found.append("outer scales of NVFP4 are stored as reciprocals: block scales may differ by 2 ulps")
    if layouts & FLOATS_IN_BF16:
        found.append("config.json names bfloat16, for transformers computes such weights in nothing else")
    return [*found, *attention_notes(plan, DIALECT, CACHES)]


def client_problems(client: str, plan: Plan) -> Sequence[str]:
    """What keeps a client from running a plan that the dialect can express, with the modules that have it."""
    found: dict[str, list[str]] = {}
    for module in plan.quantized:
        for pair in pairs_of(module):
            assert pair.weight is not None
            scheme, experts = scheme_of(pair.weight, pair.input), pair.experts is not None
            kind = kind_of(scheme.weight, scheme.layout)
            found_out = support(client, Stored(DIALECT, kind, scheme.weight, scheme.input, experts))
            if found_out.runs is False:
                what = f"{pair.weight.format.name} ({pair.weight.rule})"
                found.setdefault(f"{what}: {found_out.how}", []).append(module.name)
    for module, slot in cache_slots(plan) if client in _SERVERS else ():
        if slot.format != FP8:
            problem = f"a KV cache of this dialect in fp8 only, not in {slot.format.name} ({slot.rule})"
            found.setdefault(problem, []).append(module.name)
    for problem, modules in _merged_experts(plan) if client == "hf" else ():
        found.setdefault(problem, []).extend(modules)
    return [f"{some(modules)}: {client}: {problem}" for problem, modules in found.items()]


_SERVERS = ("vllm", "sglang")


def _merged_experts(plan: Plan) -> Iterator[tuple[str, list[str]]]:
    """transformers 5.23 decodes all experts by one group: the one that names them, else the first of the file."""
    stacks = [module for module in plan.modules if module.spec == STACKED]
    pairs = [pair for module in plan.quantized for pair in pairs_of(module)]
    coded = [pair for pair in pairs if pair.experts is not None]
    schemes = [scheme_of(pair.weight, pair.input) for pair in coded or pairs[:1] if pair.weight is not None]
    if not stacks or not schemes:
        return
    if any(scheme != schemes[0] for scheme in schemes):
        names = [module.name for module in stacks]
        yield "it decodes all experts by one scheme, and these have several; give them one format", names
    elif schemes[0].layout != "float-quantized":
        floats = [one.name for one in stacks if sum(pair.module is one for pair in coded) < len(one.facts)]
        if floats:
            yield "it looks for codes of all experts, and fails where some are floats; quantize them too", floats


def _pair_problems(pair: Pair) -> Iterator[str]:
    assert pair.weight is not None
    yield from _weight_problems(pair, pair.weight, alone=pair.input is None)
    if pair.input is not None:
        yield from _input_problems(pair.weight, pair.input)


def _weight_problems(pair: Pair, slot: SlotPlan, *, alone: bool) -> Iterator[str]:
    spelling = spelling_of(slot.format)
    if spelling is None or spelling.weight is None:
        yield _unknown(slot)
        return
    if alone and spelling.layout_alone is None:
        yield f"no client reads weights in {slot.format.name} whose input is not quantized; quantize the input too"
    group = spelling.weight.get("group_size")
    if group is not None and pair.cols % group:
        yield (
            f"in_features {pair.cols} is not a multiple of {group}, which format {slot.format.name} ({slot.rule}) "
            f"needs in {DIALECT}; exclude it"
        )


def _input_problems(weight: SlotPlan, given: SlotPlan) -> Iterator[str]:
    spelling, of_weight = spelling_of(given.format), spelling_of(weight.format)
    if spelling is None:
        yield _unknown(given)
        return
    if given.mode not in spelling.activation:
        modes = " or ".join(spelling.activation) or "not quantized"
        yield f"inputs in {given.format.name} are {modes} in {DIALECT}, not {given.mode} ({given.rule})"
    elif of_weight is not None and spelling.family not in of_weight.layout:
        yield (
            f"{DIALECT} does not pair weights in {weight.format.name} ({weight.rule}) with inputs in "
            f"{given.format.name} ({given.rule}); choose formats of one family"
        )


def _unknown(slot: SlotPlan) -> str:
    is_input = slot.slot.endswith("input")
    having = [s.format.name for s in SPELLINGS if (s.activation if is_input else s.weight)]
    return (
        f"format {slot.format.name} ({slot.slot}, {slot.rule}) cannot be spelled in {DIALECT}; it has "
        + ", ".join(having)
    )
