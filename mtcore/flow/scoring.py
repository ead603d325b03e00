"""Scores of a checkpoint's choices: batch by batch, from where an earlier run was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mtcore.calibration.run import Resolved
from mtcore.calibration.statistics import Statistics, StatisticsStore
from mtcore.errors import CalibrationError, ModelError
from mtcore.flow.loaded import LoadedModel
from mtcore.flow.precision import widened_on_cpu
from mtcore.flow.statistics import stored_statistics
from mtcore.flow.under_way import RunUnderWay
from mtcore.opt import ScoreBook, Scorer, SearcherSpec
from mtcore.plan import Plan
from mtcore.quantization.choices import Choices


def find_scores(
    run: RunUnderWay,
    book: ScoreBook,
    loaded: LoadedModel,
    choices: Choices,
    spec: SearcherSpec,
    store: StatisticsStore,
    batches: Sequence[Any] | None,
) -> None:
    """Fill the book with what is missing in it; the model is as it was afterwards.

    Raises:
        CalibrationError: scores are missing and there are no data; or the data are bad.
    """
    if batches is None:
        known = f"{book.batches} of {book.of} batches" if book.of else "none"
        raise CalibrationError(
            f"{store.directory}: of the scores of {', '.join(choices.plans)} by {spec.name}, {known} lie there; "
            "search with --calib to find them"
        )
    model, loss = loaded.model, next_token_loss if loaded.predicts_next else None
    with widened_on_cpu(model):
        with run.phase("calibrate", len(batches), "batches") as phase:

            def known_of(twin: nn.Module, plan: Plan, steps: Resolved) -> Statistics:
                return stored_statistics(twin, plan, steps, store, batches, lambda batch: phase.advance())

            twins = choices.twins(model, batches, known_of)
        scorer = Scorer(model, twins, choices.decisions, spec, loss)
        with run.phase("score", len(batches) - book.batches, "batches") as phase:
            for batch in batches[book.batches :]:
                book.add(scorer.scores(batch), len(batches))
                phase.advance()


def next_token_loss(output: Any, batch: Any) -> tuple[Tensor, int]:
    """Cross-entropy of every token but the first, summed; fp32.

    Raises:
        ModelError: the output has no logits, or the batch no token ids.
    """
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    ids = batch.get("input_ids") if isinstance(batch, dict) else None
    if logits is None or ids is None:
        raise ModelError("the model gives no logits for token ids; choose a searcher without a loss (output_error)")
    told, asked = logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()
    return F.cross_entropy(told, asked, reduction="sum"), asked.numel()
