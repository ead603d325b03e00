"""Whether transformers computes from a written checkpoint what our own quantized model computes.

    python bench/reload_check.py fp8 fp8_row int8 nvfp4

For each recipe the embedded model is quantized, its logits on held-out text are kept, the checkpoint is written and
opened by transformers in fp32, and the logits are compared. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

import mtopt_tinylm
from mtcore.flow import DataOptions, export_model, load_checkpoint
from mtcore.flow.precision import widen_on_cpu
from mtcore.plugins import default_registry
from mtcore.quantization import quantize
from mtopt_hf.reload import compare_logits, logits_of, open_as_client


def main() -> None:
    """Checks the recipes that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--samples", type=int, default=16, help="chunks of 512 tokens to compare")
    options = parser.parse_args()
    print("| recipe | tokens | same argmax | mean difference | largest | mean logit |\n|---|---|---|---|---|---|")
    for recipe in options.recipes:
        found = check(recipe, DataOptions(samples=options.samples))
        print(
            f"| {recipe} | {found.tokens} | {found.same_argmax:.4%} | {found.mean_difference:.2e} "
            f"| {found.max_difference:.2e} | {found.mean_logit:.2f} |",
            flush=True,
        )


def check(recipe: str, data: DataOptions):
    """The agreement of the two models' logits."""
    registry = default_registry()
    loaded = load_checkpoint(str(mtopt_tinylm.checkpoint_dir()))
    widen_on_cpu(loaded.model)
    batches = registry.calibration_batches(str(mtopt_tinylm.calibration_file()), loaded, DataOptions())
    held_out = registry.calibration_batches(str(mtopt_tinylm.evaluation_file()), loaded, data)
    model = quantize(loaded.model, recipe, batches, inputs=loaded.example_inputs)
    ours = logits_of(model, held_out)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "checkpoint"
        export_model(model, out, source=loaded.files)
        return compare_logits(ours, logits_of(open_as_client(out, torch.float32), held_out))


if __name__ == "__main__":
    main()
