"""transformers as the client of a written checkpoint: its logits, and how far its own precision lets them move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

UNIT = 2.0**-22
"""A client computes in fp32 from the values of the file. The order of its sums may differ from ours, which moves a
sum of up to 64 products by a few units in the last place, 2^-23."""
BF16 = 2.0**-8
"""Where the client rounds weights to bf16 and the reference does not."""
SEEDS = 3
FACTOR = 4.0
"""The bound is this many times the largest of three random movements: a movement of the same size in the worst
direction is further than one in a random direction, and three draws do not show the largest."""


def logits(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """fp32, whatever shape the model gives."""
    with torch.inference_mode():
        return model(**inputs).logits.float()


def open_client(out: Path, class_name: str) -> Any:
    """The model of a written directory in fp32, its weights decompressed."""
    cls = getattr(transformers, class_name)
    model = cls.from_pretrained(out, dtype=torch.float32).eval()  # weights that it misses show in the logits
    compressor = getattr(getattr(model, "hf_quantizer", None), "compressor", None)
    if compressor is not None:
        compressor.decompress_model(model)
    for parameter in model.parameters() if compressor is not None else ():
        if parameter.dtype == torch.bfloat16:  # it leaves FP4 in bf16: layers raise, merged experts compute in bf16
            parameter.data = parameter.data.float()
    return model


def compare(reference: Tensor, model: nn.Module, inputs: dict[str, Any], unit: float = UNIT) -> dict[str, float]:
    """Largest difference of a logit, and the bound that the client's precision sets.

    The client's logits may be as far from the reference as they move when every weight moves by up to `unit`, which
    is measured, with random signs, and multiplied by `FACTOR`. The move goes through everything that follows, also
    through codes of activations and choices of experts that tip over. Equal bits are always within the bound.
    """
    theirs = logits(model, inputs)
    if theirs.shape != reference.shape:
        raise ValueError(f"logits of shape {tuple(theirs.shape)}, not {tuple(reference.shape)}")
    if not theirs.isfinite().all():
        raise ValueError("the client's logits are not finite")
    difference = float((theirs - reference).abs().max())
    bound = _movement(model, inputs, theirs, unit) if difference else 0.0
    return {"difference": difference, "bound": bound, "largest": float(theirs.abs().max())}


def _movement(model: nn.Module, inputs: dict[str, Any], still: Tensor, unit: float) -> float:
    generator = torch.Generator().manual_seed(3)
    parameters = {id(p): p for p in model.parameters() if p.is_floating_point() and p.dim() > 1}
    kept = {key: p.detach().clone() for key, p in parameters.items()}
    moved = 0.0
    for _ in range(SEEDS):
        with torch.no_grad():
            for key, p in parameters.items():
                p.copy_(kept[key] * (1 + unit * (2 * torch.rand(p.shape, generator=generator) - 1)))
        moved = max(moved, float((logits(model, inputs) - still).abs().max()))
    return FACTOR * moved
