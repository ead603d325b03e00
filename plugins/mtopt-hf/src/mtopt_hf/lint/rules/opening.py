"""Rules on whether transformers gets through its own steps of opening a checkpoint of this architecture."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.lint import Checkpoint, Hit, RuleSpec
from mtopt_hf.lint.architecture import asked
from mtopt_hf.lint.names import expert_of
from mtopt_hf.lint.view import view_of
from mtopt_hf.served import DECODED_AT_ONCE


def stopped(checkpoint: Checkpoint) -> Iterator[Hit]:
    """One fault of the architecture shows in every layer: the first is named. Experts have a rule of their own."""
    view = view_of(checkpoint)
    if view.says.method != "compressed-tensors" or not view.quantized:
        return
    from mtopt_hf.checkpoint.opening import Stop, stops_of

    stops: list[Stop] = asked(stops_of, checkpoint.config, checkpoint.tensors, otherwise=[])
    stop = next((one for one in stops if expert_of(one.where.rpartition(".")[0]) is None), None)
    if stop is not None:
        other = "open it by way of mtopt_hf.quantizer, or take another client"
        todo = (
            f"load it with {DECODED_AT_ONCE}, which leaves inputs in floats; or {other}" if stop.decoded else other
        )
        yield Hit(stop.where or "config.json", f"{stop.why}: from_pretrained raises", todo)


RULES = (RuleSpec("opening", "transformers gets through its steps of opening", {"transformers": "error"}, stopped),)
