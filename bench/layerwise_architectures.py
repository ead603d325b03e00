"""Whether a run block by block gives the bits of a run on the whole model, on every causal language model.

    python bench/layerwise_architectures.py --json results/layerwise_architectures.json
    python bench/layerwise_architectures.py llama mixtral

Tiny instances of transformers' classes with random parameters; `max` on 8-bit weights and inputs of every layer
that the example batch calls. Prints a line a model, and counts: same bits, different bits, refused with a reason.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shrink import Architecture, architectures

from mtcore.errors import MtcoreError
from mtcore.export import UnifiedExporter
from mtcore.flow import LayerwiseOptions, LoadedModel, LoggingReporter
from mtcore.flow.layerwise import quantize_blocks
from mtcore.flow.report import Phase
from mtcore.plan import Plan
from mtcore.plugins import Registry
from mtcore.quantization import apply_plan, plan_model, to_artifact, trace_model
from mtcore.testing.toy_blocks import ToyBlocksPlugin

REPORTER = LoggingReporter()


@contextmanager
def phase(name: str, total: int | None = None, unit: str = "") -> Iterator[Phase]:
    with REPORTER.phase(name, total, unit) as progress:
        yield progress


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def plan_called(model: Any, inputs: dict[str, Any], registry: Registry) -> Plan:
    """Every layer in INT8, but for those that the batch does not call."""
    eight = {"num_bits": 8}
    rules: dict[str, Any] = {"*weight_quantizer": eight, "*input_quantizer": eight}
    rules |= {f"{name}*": {"enable": False} for name in trace_model(model, inputs, registry=registry).uncalled}
    config = {"quant_cfg": rules, "algorithm": "max", "max_unquantized": 1.0}
    return plan_model(model, config, inputs=inputs, registry=registry)


def check(architecture: Architecture, registry: Registry) -> dict[str, Any]:
    try:
        model = architecture.build().requires_grad_(False)
        inputs = architecture.inputs(model)
        plan = plan_called(model, inputs, registry)
        assert not plan.errors, plan.errors[0].message
        if not plan.quantized:
            return {"outcome": "nothing to quantize", "why": ""}
    except Exception as error:  # noqa: BLE001  a model that cannot be built or run here says so in its row
        return {"outcome": "not run", "why": f"{type(error).__name__}: {str(error)[:200]}"}
    batches = [inputs, {k: v.roll(1, -1) if k == "input_ids" else v for k, v in inputs.items()}]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        loaded, options = LoadedModel(model, architecture.name), LayerwiseOptions()
        try:
            quantize_blocks(
                loaded,
                plan,
                batches,
                folder / "blocks",
                dialect="toy",
                options=options,
                registry=registry,
                reporter=REPORTER,
                phase=phase,
            )
        except MtcoreError as error:
            return {"outcome": "refused", "why": str(error)}
        whole = to_artifact(apply_plan(model, plan, batches, registry=registry))
        UnifiedExporter(registry.exporters).export(whole, folder / "whole", "toy")
        same = content(folder / "blocks") == content(folder / "whole")
    return {"outcome": "same bits" if same else "different bits", "why": "", "layers": len(plan.quantized)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    registry = Registry.load([ToyBlocksPlugin()], discover=False)
    rows: dict[str, dict[str, Any]] = {}
    for architecture in architectures(("causal_lm",)):
        if not options.names or architecture.name in options.names:
            try:
                row = check(architecture, registry)
            except Exception as error:  # noqa: BLE001  an error of another kind than ours is a finding of its own
                row = {"outcome": "failed", "why": f"{type(error).__name__}: {str(error)[:200]}"}
            rows[architecture.name] = row
            print(f"{architecture.name}: {row['outcome']} {row['why']}", flush=True)
    counts = Counter(row["outcome"] for row in rows.values())
    print(dict(counts.most_common()))
    if options.json is not None:
        options.json.write_text(json.dumps({"counts": counts, "models": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
