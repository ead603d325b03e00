"""Are scores true? Each group of the embedded model alone in one format: what the loss rises by, and the scores.

    python bench/search_scores.py nvfp4

Scores are found on calibration text; the loss is that of held-out text, in nats a token, the model in fp32. For
each searcher: the correlation of its scores with the rises (Pearson's, and Spearman's of the ranks); and the sums
of both over all groups, beside the rise with all groups rounded at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from embedded_model import opened
from machine import machine
from torch import nn

import mtopt_tinylm
from mtcore.flow import DataOptions, perplexity
from mtcore.flow.scoring import next_token_loss
from mtcore.opt import Scorer, Totals
from mtcore.plugins import default_registry
from mtcore.quantization import trace_model
from mtcore.quantization.choices import Choices, load_choices


def main() -> None:
    """Measures one format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("choice")
    parser.add_argument("--samples", type=int, default=8, help="chunks of 512 tokens, for scores")
    parser.add_argument("--evaluate", type=int, default=16, help="chunks of 512 tokens, for the loss")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    registry, loaded = default_registry(), opened()
    model, example = loaded.model, loaded.example_inputs
    data, held_out = (
        registry.calibration_batches(str(file), loaded, DataOptions(samples=count))
        for file, count in (
            (mtopt_tinylm.calibration_file(), options.samples),
            (mtopt_tinylm.evaluation_file(), options.evaluate),
        )
    )
    trace = trace_model(model, example, registry=registry)
    choices = Choices.of(model, load_choices([options.choice], registry), trace, registry, example)
    twins = choices.twins(model, data)
    scores = {}
    for spec in registry.searchers.values():
        totals, scorer = Totals(), Scorer(model, twins, choices.decisions, spec, next_token_loss)
        for batch in data:
            totals.add(scorer.scores(batch))
        scores[spec.name] = [totals.means(choices.decisions)[d.name][options.choice] for d in choices.decisions]
    twin = twins[options.choice]
    base = perplexity(model, held_out).nll
    rises = []
    for decision in choices.decisions:
        with rounded(model, twin, decision.sites):
            rises.append(perplexity(model, held_out).nll - base)
    every = [site for decision in choices.decisions for site in decision.sites]
    with rounded(model, twin, every):
        together = perplexity(model, held_out).nll - base
    result = {
        "machine": machine(),
        "choice": options.choice,
        "together": together,
        "groups": [decision.name for decision in choices.decisions],
        "rises": rises,
        "scores": scores,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{options.choice}: {len(rises)} groups one by one {sum(rises):.4f} nats, together {together:.4f}")
    for name, foretold in scores.items():
        pearson = statistics.correlation(foretold, rises)
        spearman = statistics.correlation(ranks(foretold), ranks(rises))
        print(f"{name}: correlation {pearson:.2f}, of the ranks {spearman:.2f}, sum {sum(foretold):.4f}")


def ranks(values: Sequence[float]) -> list[int]:
    """The place of every value among them, from the smallest on."""
    order = sorted(range(len(values)), key=values.__getitem__)
    return [order.index(i) for i in range(len(values))]


@contextlib.contextmanager
def rounded(model: nn.Module, twin: nn.Module, sites: Sequence[str]) -> Iterator[None]:
    """These layers give what their quantized forms give."""

    def instead(site: str) -> torch.utils.hooks.RemovableHandle:
        quantized = twin.get_submodule(site)
        return model.get_submodule(site).register_forward_hook(lambda module, args, output: quantized(*args))

    handles = [instead(site) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    main()
