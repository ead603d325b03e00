"""Where rows of stacked experts lie is read off a conversion; what no layer could hold is told, not guessed."""

import pytest

from mtcore.formats.catalog import FP8_TILE
from mtcore.plan import ModulePlan, SlotPlan
from mtopt_hf.checkpoint.layer import cuts_blocks
from mtopt_hf.checkpoint.pairs import Pair
from mtopt_hf.checkpoint.stacks import Piece, pieces_of

NAME = "mlp.experts.gate_up_proj"


def pair(experts=3, transposed=False):
    slot = SlotPlan("gate_up_proj", FP8_TILE, "static", "by hand")
    shape = (experts, 4, 256) if transposed else (experts, 256, 4)
    module = ModulePlan("mlp.experts", "Experts", "experts", (("gate_up_proj", shape),), (slot,), "by hand")
    return Pair(module, "gate_up_proj", slot, None, 256, 4, experts, transposed)


def named(parts, form="mlp.experts.{}.{}.weight"):
    """A conversion: `parts` gives the tensors of one expert by name."""

    def revert(tensors):
        (stack,) = tensors.values()
        return {form.format(e, part): t for e, matrix in enumerate(stack) for part, t in parts(matrix).items()}

    return revert


def halves(matrix):
    return {"gate": matrix[:128], "up": matrix[128:]}


@pytest.mark.parametrize("transposed", [False, True])
def test_halves_and_wholes_are_found_in_either_orientation(transposed):
    def turned(matrix):
        return matrix.T if transposed else matrix

    both = pieces_of(NAME, pair(transposed=transposed), named(lambda matrix: halves(turned(matrix))))
    assert both[:2] == (Piece("mlp.experts.0.gate", 0, (0, 128)), Piece("mlp.experts.0.up", 0, (128, 256)))
    assert both[-1] == Piece("mlp.experts.2.up", 2, (128, 256))
    whole = pieces_of(NAME, pair(transposed=transposed), named(lambda matrix: {"w": turned(matrix)}))
    assert whole == tuple(Piece(f"mlp.experts.{e}.w", e, None) for e in range(3))


@pytest.mark.parametrize(
    ("revert", "message"),
    [
        (lambda tensors: tensors, "not one matrix each"),
        (named(lambda m: {"gate": m[0::2], "up": m[1::2]}), "not one matrix each"),
        (named(lambda m: {"gate": m[:, :2]}), "not one matrix each"),
        (named(lambda m: {"w": m.T}), "not one matrix each"),
        (named(lambda m: {"w": m}, "mlp.experts.{}.{}"), "not one matrix each"),
        (named(lambda m: {"w": m}, "mlp.experts.x{}.{}.weight"), "do not differ by their numbers"),
    ],
    ids=["stacked", "interleaved", "columns", "turned", "no weight", "no number"],
)
def test_what_no_linear_layer_could_hold_is_told(revert, message):
    assert message in pieces_of(NAME, pair(), revert)


def test_a_single_expert_has_no_number_to_go_by():
    assert "single expert" in pieces_of(NAME, pair(experts=1), named(lambda m: {"w": m}))


def test_rows_that_begin_or_end_inside_a_block_are_known():
    assert not cuts_blocks(pair(), (0, 128))
    assert not cuts_blocks(pair(), (128, 256))
    assert cuts_blocks(pair(), (64, 256))
    assert cuts_blocks(pair(), (0, 192))


def test_a_large_stack_is_not_sent_through_in_full():
    """Two experts of a large model are a gigabyte of numbers."""
    sent = []

    def revert(tensors):
        sent.extend(tensor for tensor in tensors.values() if not tensor.is_meta)
        return named(lambda m: {"gate": m[: len(m) // 2], "up": m[len(m) // 2 :]})(tensors)

    pieces = pieces_of(NAME, pair(), revert)
    assert pieces[:2] == (Piece("mlp.experts.0.gate", 0, (0, 128)), Piece("mlp.experts.0.up", 0, (128, 256)))
    assert sum(tensor.numel() for tensor in sent) == 2 * 16 * 4
