"""A client that loads checkpoints, and one thing that it wants of them: `mtopt lint --client template-server`."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.lint import Checkpoint, ClientSpec, Hit, Reading, RuleSpec


def read(checkpoint: Checkpoint) -> Reading:
    """What the client takes a checkpoint for."""
    return Reading(f"{len(checkpoint.tensors)} tensors", "one product after the other")


def wide_enough(checkpoint: Checkpoint) -> Iterator[Hit]:
    """The places where a weight is narrower than what the client multiplies at once."""
    for tensor in checkpoint.tensors.values():
        if tensor.name.endswith(".weight") and len(tensor.shape) == 2 and tensor.shape[1] < 8:
            yield Hit(tensor.name, f"{tensor.shape[1]} columns are fewer than 8; the server raises", "pad it")


SERVER = ClientSpec("template-server", "our server 1.0", read)
WIDTH = RuleSpec("template-width", "weights have 8 columns or more", {SERVER.name: "error"}, wide_enough)
