"""Whether GPTQModel, under transformers, and AutoAWQ read our AWQ and GPTQ checkpoints as what they are.

    VENV/bin/pip install gptqmodel==7.7.0 autoawq==0.2.9  # beside torch for CPUs and transformers
    python bench/clients/int4_check.py --python VENV/bin/python --json bench/results/int4_cpu.json

A random Llama is quantized in every format of both layouts and written. Our reference is that model with weights
`(code - zero point) · scale` in fp32, the scale rounded to fp16, as both layouts store it. GPTQModel's CPU kernels
compute in fp32 or bf16, which the distance shows; AutoAWQ's own reader multiplies in fp16, so its weights are
compared with that product rounded to fp16, and have to be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from agreement import last_error
from clients_models import MODELS
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtcore.export import Artifact, UnifiedExporter
from mtcore.flow import load_checkpoint
from mtcore.numerics import dequantize
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan, plan_model, to_artifact
from mtopt_hf.quiet import quiet_transformers

CASES = {
    "awq": ("int4_b32", "int4_b32_asym", "int4_b128", "int4_b128_asym"),
    "gptq": ("int4_b128", "int4_b128_asym", "int4_row", "int8_b128", "int3_b128", "int2_b64"),
}
TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the environment that has GPTQModel")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        work = Path(folder)
        build = MODELS["dense"]
        assert build is not None
        build().float().save_pretrained(work / "source")
        rows = [check(d, fmt, work, options.python) for d, formats in CASES.items() for fmt in formats]
    options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        print(row)


def check(dialect: str, fmt: str, work: Path, python: str) -> dict[str, Any]:
    """One row: the layers that took it, and how far its logits and weights are from ours."""
    row = {"dialect": dialect, "format": fmt}
    ids = torch.randint(3, 500, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    save_file({"input_ids": ids}, work / "ids.safetensors")
    out = work / f"{dialect}-{fmt}"
    weights, logits, plain = write(work / "source", fmt, dialect, out, ids)
    answer = work / "answer.safetensors"
    answer.unlink(missing_ok=True)
    script = Path(__file__).with_name("int4_open.py")
    command = [python, str(script), str(out), str(work / "ids.safetensors"), str(answer)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode or not answer.exists():
        return {**row, "result": "not opened", "why": last_error(done.stderr + done.stdout)}
    with safe_open(answer, framework="pt") as file:
        found = {name: file.get_tensor(name) for name in list(file.keys())}
        row["layers"] = (file.metadata() or {})["layers"]
    served = found.pop("logits")
    equal = [torch.equal(found[name], weights[name].half()) for name in found]
    autoawq = {"autoawq": f"{sum(equal)} of {len(equal)} weights equal"} if equal else {}
    return {
        **row,
        "result": "opened",
        "distance": _apart(served, logits),
        "quantization": _apart(logits, plain),
        **autoawq,
    }


def write(source: Path, fmt: str, dialect: str, out: Path, ids: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Write `out`; weights by layer, logits with these weights, and logits of the original."""
    loaded = load_checkpoint(str(source))
    with torch.inference_mode():
        plain = loaded.model(input_ids=ids).logits
    recipe = {"rules": [{"weight": fmt}, {"include": "base_exclusions"}], "algorithm": "max"}
    exporter = UnifiedExporter(default_registry().exporters)
    plan = plan_model(loaded.model, recipe, inputs={"input_ids": ids})
    exporter.check(plan, dialect)
    artifact = to_artifact(apply_plan(loaded.model, plan), loaded.files)
    exporter.export(artifact, out, dialect)
    weights = as_stored(artifact)
    reference = load_checkpoint(str(source)).model
    for name, weight in weights.items():
        reference.get_submodule(name).weight.data = weight
    with torch.inference_mode():
        return weights, reference(input_ids=ids).logits, plain


def as_stored(artifact: Artifact) -> dict[str, Tensor]:
    """Weights fp32 [out, in] by layer, their scales rounded to fp16."""
    found = {}
    for name, module in artifact.modules.items():
        q = module.weights["weight"]
        found[name] = dequantize(replace(q, qparams=replace(q.qparams, scale=q.qparams.scale.half().float())))
    return found


def _apart(one: Tensor, other: Tensor) -> float:
    """|one - other| / |other|, to three digits."""
    return float(f"{float((one - other).norm() / other.norm()):.3g}")


if __name__ == "__main__":
    main()
