"""What keeps a plan from being written in the dialect, found before anything is calibrated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mtcore.formats.catalog import FP8
from mtcore.plan import Plan, SlotPlan
from mtopt_hf.checkpoint.attention import attention_notes, cache_slots
from mtopt_hf.checkpoint.pairs import Pair, pairs_of
from mtopt_hf.checkpoint.problems import plan_problems
from mtopt_hf.checkpoint.some import some
from mtopt_hf.ct.config import FLOATS_IN_BF16
from mtopt_hf.ct.scheme import scheme_of
from mtopt_hf.ct.spelling import CACHES, SPELLINGS, spelling_of

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
            for problem in _CLIENTS[client](pair):
                found.setdefault(problem, []).append(module.name)
    for module, slot in cache_slots(plan) if client in _SERVERS else ():
        if slot.format != FP8:
            problem = f"a KV cache of this dialect in fp8 only, not in {slot.format.name} ({slot.rule})"
            found.setdefault(problem, []).append(module.name)
    return [f"{some(modules)}: {client}: {problem}" for problem, modules in found.items()]


def _server(pair: Pair) -> Iterator[str]:
    """vLLM 0.32 and SGLang."""
    assert pair.weight is not None
    scheme = scheme_of(pair.weight, pair.input)
    bits, given = scheme.weight["num_bits"], scheme.input
    if scheme.layout == "mxfp6-pack-quantized":
        yield "no scheme for 6-bit floats; choose mxfp4 or mxfp8"
    elif scheme.layout == "pack-quantized" and given is None and bits not in _SERVED_BITS:
        yield f"no weight-only kernel for {bits} bits; it has {', '.join(map(str, _SERVED_BITS))}"
    elif scheme.layout == "pack-quantized" and given is not None and given["strategy"] != "token":
        yield f"{bits}-bit weights beside inputs with one scale a tensor; give the inputs one a token"
    elif given is not None and given["type"] == "float" and scheme.weight["type"] == "int":
        if scheme.weight["strategy"] != "group":
            yield "4-bit weights with one scale a row beside FP8 inputs; give the weights blocks"
    elif (
        scheme.layout == "int-quantized" and given is not None and given["dynamic"] and given["strategy"] != "token"
    ):
        yield "INT8 inputs with one scale a tensor that is worked out at run time; make it static, or one a token"


def _transformers(pair: Pair) -> Iterator[str]:
    """transformers 5.23: it loads stacked experts by a decoder of its own, which knows less than that of layers."""
    assert pair.weight is not None
    scheme, weight = scheme_of(pair.weight, pair.input), pair.weight
    if pair.experts is None:
        return
    tiles = scheme.weight["strategy"] == "block"
    if not scheme.weight["symmetric"] or scheme.layout not in ("float-quantized", "pack-quantized") or tiles:
        yield (
            f"it does not decode experts in {weight.format.name} ({weight.rule}); it does in fp8, fp8_row and "
            "symmetric integers"
        )


_SERVERS = ("vllm", "sglang")
_SERVED_BITS = (2, 3, 4, 8)

_CLIENTS: Mapping[str, Callable[[Pair], Iterator[str]]] = {
    "vllm": _server,
    "sglang": _server,
    "hf": _transformers,
}


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
