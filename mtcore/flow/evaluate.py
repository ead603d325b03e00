"""Perplexity of a causal language model, from its own logits."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.errors import ModelError
from mtcore.flow.report import LoggingReporter, Reporter


@dataclass(frozen=True)
class Evaluation:
    """Mean negative log-likelihood a predicted token, in nats, and what it was measured on."""

    nll: float
    tokens: int
    seconds: float

    @property
    def perplexity(self) -> float:
        return math.exp(self.nll)

    def to_json(self) -> dict[str, Any]:
        return {"perplexity": self.perplexity, **asdict(self)}


def perplexity(
    model: nn.Module, batches: Sequence[Mapping[str, Tensor]], reporter: Reporter | None = None
) -> Evaluation:
    """Perplexity over batches that hold `input_ids` [batch, length] (int64); all tokens but the first count.

    Logits are taken to fp32 before the softmax; the sum runs in fp64.

    Raises:
        ModelError: the model's output has no logits, or they are not finite.
    """
    total, count, start = 0.0, 0, time.perf_counter()
    tokens = sum(int(batch["input_ids"].numel()) for batch in batches)
    with torch.inference_mode(), (reporter or LoggingReporter()).phase("evaluate", tokens, "tokens") as phase:
        for batch in batches:
            ids = batch["input_ids"]
            logits = getattr(model(**batch), "logits", None)
            if logits is None:
                raise ModelError(f"{type(model).__name__} gives no logits; perplexity needs a language model")
            for row, own in zip(logits, ids, strict=True):  # one text's logits at a time: vocabularies are large
                losses = F.cross_entropy(row[:-1].float(), own[1:], reduction="none").double()
                total += float(losses.sum())
                count += losses.numel()
            phase.advance(ids.numel())
    if not math.isfinite(total):
        raise ModelError("the model's logits are not finite on this text")
    return Evaluation(total / count, count, time.perf_counter() - start)
