"""The reload check: a written checkpoint opened by transformers, its logits held against a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mtcore.errors import ModelError
from mtopt_hf.load.construct import open_quantized
from mtopt_hf.quiet import quiet_transformers


@dataclass(frozen=True)
class LogitAgreement:
    """How close two models' logits are, over all tokens of all batches.

    Attributes:
        tokens: positions that were compared.
        same_argmax: share of positions with the same most likely token, in [0, 1].
        mean_difference: mean absolute difference of a logit.
        max_difference: largest absolute difference of a logit.
        mean_logit: mean absolute value of the reference's logits, to judge the differences by.
    """

    tokens: int
    same_argmax: float
    mean_difference: float
    max_difference: float
    mean_logit: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def open_as_client(folder: Path, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The model of a written directory as transformers runs it, quietly; see `open_quantized`.

    Args:
        folder: a compressed-tensors checkpoint.
        dtype: to compute in; that of config.json where None.

    Raises:
        ModelError: transformers cannot open it.
    """
    with quiet_transformers():
        return open_quantized(folder, "auto" if dtype is None else dtype)


def logits_of(model: torch.nn.Module, batches: Iterable[Mapping[str, Any]]) -> list[Tensor]:
    """Logits of each batch: fp32 [batch, length, vocabulary]."""
    with torch.inference_mode():
        return [model(**batch).logits.float() for batch in batches]


def compare_logits(reference: Sequence[Tensor], other: Sequence[Tensor]) -> LogitAgreement:
    """How close `other` is to `reference`; each a list of fp32 [batch, length, vocabulary].

    Raises:
        ModelError: shapes differ, or logits are not finite.
    """
    shapes = [tuple(a.shape) for a in reference], [tuple(b.shape) for b in other]
    if shapes[0] != shapes[1] or not reference:
        raise ModelError(f"logits cannot be compared: shapes {shapes[0][:3]} and {shapes[1][:3]}")
    same = difference = magnitude = largest = 0.0
    tokens = count = 0
    for a, b in zip(reference, other, strict=True):
        if not (a.isfinite().all() and b.isfinite().all()):
            raise ModelError("logits cannot be compared: some are not finite")
        apart = (a - b).abs()
        same += float((a.argmax(-1) == b.argmax(-1)).sum())
        difference += float(apart.double().sum())
        magnitude += float(a.abs().double().sum())
        largest = max(largest, float(apart.max()))
        tokens += a.shape[:-1].numel()
        count += a.numel()
    return LogitAgreement(tokens, same / tokens, difference / count, largest, magnitude / count)


def check_reload(
    folder: Path,
    batches: Sequence[Mapping[str, Any]],
    reference: Sequence[Tensor],
    dtype: torch.dtype | None = None,
) -> LogitAgreement:
    """Open a written directory in transformers, run the batches, and compare with reference logits."""
    return compare_logits(reference, logits_of(open_as_client(folder, dtype), batches))
