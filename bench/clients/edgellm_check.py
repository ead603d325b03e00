"""Whether the exporter of TensorRT Edge-LLM reads our ModelOpt checkpoints to the end, and writes ONNX.

    VENV/bin/pip install --no-deps tensorrt-edgellm==0.11.0 onnx onnxscript onnx-ir ml_dtypes  # beside torch
    python bench/clients/edgellm_check.py --python VENV/bin/python --json bench/results/edgellm.json

A small random Llama with a chat template is quantized, written in the modelopt dialect, and given to the exporter.
It works on a CPU; what it writes would be built into an engine on another machine.
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
from clients_models import MODELS
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mtcore.flow import quantize_checkpoint
from mtopt_hf.quiet import quiet_transformers

EXCLUDED = {"include": "base_exclusions"}
SMOOTH = {"method": "smoothquant"}
FORMATS: dict[str, Any] = {
    "FP8": "fp8",
    "NVFP4": "nvfp4",
    "INT4_AWQ": {"rules": [{"weight": "int4_b128"}, EXCLUDED], "algorithm": {"method": "awq"}},
    "INT8_SQ": {
        "rules": [{"weight": "int8_row", "input": {"format": "int8", "mode": "static"}}, EXCLUDED],
        "algorithm": SMOOTH,
    },
}
CHAT = "{% for message in messages %}<s>{{ message['role'] }}: {{ message['content'] }}</s>{% endfor %}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter of the environment that has the exporter")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet_transformers():
        source = save_source(Path(folder) / "source")
        rows = [check(name, source, Path(folder), options.python) for name in options.formats.split(",")]
    options.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        print(f"{row['format']}: {row['result']} {row.get('why', '')}")


def check(name: str, source: Path, work: Path, python: str) -> dict[str, Any]:
    """One row: what was written, or what stopped it."""
    out, onnx = work / name, work / f"{name}-onnx"
    batches = [{"input_ids": torch.randint(3, 250, (4, 32), generator=torch.Generator().manual_seed(0))}]
    try:
        quantize_checkpoint(str(source), FORMATS[name], out, calib=batches, dialect="modelopt")
    except Exception as error:  # noqa: BLE001  the row says what stopped it
        return {"format": name, "result": "not written", "why": f"{type(error).__name__}: {error}"[:300]}
    command = [python, "-m", "tensorrt_edgellm.scripts.export", str(out), str(onnx)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    files = sorted(str(file.relative_to(onnx)) for file in onnx.rglob("*.onnx"))
    if done.returncode or not files:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "Error" in line]
        return {"format": name, "result": "refused", "why": (lines or ["it ended without a word"])[-1][:300]}
    return {"format": name, "result": "exported", "files": files}


def save_source(folder: Path) -> Path:
    """The dense model of the other checks, with a tokenizer of bytes."""
    build = MODELS["dense"]
    assert build is not None
    build().half().save_pretrained(folder)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = CHAT
    fast.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
