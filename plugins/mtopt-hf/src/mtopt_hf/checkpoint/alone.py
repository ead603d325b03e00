"""What integer layouts ask of a plan: weights alone, in one of their formats, in groups of one size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mtcore.formats import TensorFormat
from mtcore.plan import Plan
from mtopt_hf.checkpoint.pairs import Pair, pairs_of
from mtopt_hf.same import same_when_stored


def alone_problems(pair: Pair, dialect: str, formats: Sequence[TensorFormat]) -> Iterator[str]:
    """What keeps a pair from being a weight alone in one of these formats."""
    weight, given = pair.weight, pair.input
    assert weight is not None
    if given is not None:
        yield f"{dialect} holds weights alone; switch off the rule on inputs ({given.rule})"
    if not any(same_when_stored(fmt, weight.format) for fmt in formats):
        known = ", ".join(fmt.name for fmt in formats)
        yield (
            f"format {weight.format.name} ({weight.slot}, {weight.rule}) cannot be spelled in {dialect}; "
            f"it has {known}"
        )
    elif weight.format.block.cols > 1 and pair.cols % weight.format.block.cols:
        yield (
            f"in_features {pair.cols} is not a multiple of {weight.format.block.cols}, which format "
            f"{weight.format.name} ({weight.rule}) needs in {dialect}; exclude it"
        )


def one_group_size(plan: Plan, dialect: str) -> Iterator[str]:
    """One configuration speaks for all layers."""
    slots = [pair.weight for module in plan.quantized for pair in pairs_of(module)]
    kinds = {
        (slot.format.element.bits, slot.format.block.cols): slot.format.name for slot in slots if slot is not None
    }
    if len(kinds) > 1:
        yield f"{dialect} has one number of bits and one group size for all layers, not {', '.join(kinds.values())}"
