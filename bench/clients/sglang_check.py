"""What SGLang's own configuration code takes our checkpoints for, without a GPU.

    pip download --no-deps sglang==0.5.23 && unzip -d SGLANG sglang-*.whl
    python bench/clients/sglang_check.py --python VENV/bin/python --sglang SGLANG --json OUT.json

VENV has torch for CPUs, transformers, compressed-tensors, and what `import sglang` asks for by and by (orjson,
msgspec, pyzmq, ipython, aiohttp, fastapi, …). A small Llama is written in every dialect that SGLang reads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from agreement import last_error
from clients_models import MODELS

from mtcore.flow import quantize_checkpoint
from mtopt_hf.quiet import quiet_transformers

CASES = (
    *(("compressed-tensors", recipe) for recipe in (
        "fp8", "fp8_row", "fp8_weight_only", "fp8_block", "fp8_block_weight_only", "int8", "int8_static",
        "int8_weight_only", "int4_weight_only", "int4_asym_weight_only", "int3_weight_only", "nvfp4",
        "nvfp4_weight_only", "mxfp4", "mxfp4_weight_only", "mxfp8", "fp8_kv_fp8", "mixed", "int4_int8",
        "int4_fp8_row",
    )),
    *(("modelopt", recipe) for recipe in ("fp8", "fp8_row", "nvfp4", "nvfp4_kv_fp8", "mixed")),
    ("fp8", "fp8_block"), ("awq", "int4_weight_only"), ("gptq", "int4_weight_only"),
)  # fmt: skip
EXCLUDED = {"include": "base_exclusions"}


def _int4_beside(given: str) -> dict[str, Any]:
    return {"rules": [{"weight": "int4_b128", "input": {"format": given, "mode": "dynamic"}}, EXCLUDED]}


OWN = {
    "mixed": {"include": "nvfp4", "rules": [{"modules": "*self_attn*", "weight": "fp8", "input": "fp8"}]},
    "int4_int8": _int4_beside("int8_row"),
    "int4_fp8_row": _int4_beside("fp8_row"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the environment that has what sglang needs")
    parser.add_argument("--sglang", type=Path, required=True, help="directory that holds the package")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        places = write(Path(folder))
        script = Path(__file__).with_name("sglang_open.py")
        environment = {**os.environ, "PYTHONPATH": str(options.sglang)}
        command = [options.python, str(script), *map(str, places)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    answers = done.stdout.splitlines()
    if len(answers) != len(CASES):
        raise SystemExit(last_error(done.stderr))
    rows = [{"dialect": d, "recipe": r, **json.loads(a)} for (d, r), a in zip(CASES, answers, strict=True)]
    options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        found = row.get("error") or ", ".join(f"{count} x {name}" for name, count in row["layers"].items())
        print(f"| {row['dialect']} | `{row['recipe']}` | {found} |")


def write(work: Path) -> list[Path]:
    """The checkpoints of all cases."""
    build = MODELS["dense"]
    assert build is not None
    build().save_pretrained(work / "source")
    batches = [{"input_ids": torch.randint(3, 500, (2, 32), generator=torch.Generator().manual_seed(0))}]
    places = []
    for dialect, recipe in CASES:
        places.append(work / f"{dialect}-{recipe}")
        quantize_checkpoint(
            str(work / "source"), OWN.get(recipe, recipe), places[-1], calib=batches, dialect=dialect
        )
    return places


if __name__ == "__main__":
    main()
