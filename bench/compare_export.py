"""Compares our modelopt dialect with nvidia-modelopt's own export: the same weights and data, both with `max`.

    python bench/compare_export.py --peer-python VENV/bin/python --json bench/results/compare_export.json

A small random Llama in bf16 is exported by both in every configuration; then tensors are compared by name, dtype,
shape and bytes, and the two JSON descriptions entry by entry. A difference is explained if it is one of EXPLAINED,
whose test must hold for the very tensors at hand, or one of OUR_ENTRIES; all others are listed, and the exit code
is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from machine import machine
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from mtcore import quantize
from mtcore.export import SourceFiles
from mtcore.flow import export_model

Slot = str | dict[str, str] | None

CONFIGS: dict[str, tuple[str, Slot]] = {
    "FP8_DEFAULT_CFG": ("fp8", "fp8"),
    "FP8_PER_CHANNEL_PER_TOKEN_CFG": ("fp8_row", "fp8_row"),
    "FP8_2D_BLOCKWISE_WEIGHT_ONLY_CFG": ("fp8_128x128", None),
    "NVFP4_DEFAULT_CFG": ("nvfp4", {"format": "nvfp4", "mode": "dynamic_blocks"}),
    "W4A16_NVFP4_CFG": ("nvfp4", None),
    "W4A8_NVFP4_FP8_CFG": ("nvfp4_b32_fp8", "fp8"),
    "MXFP8_DEFAULT_CFG": ("mxfp8", "mxfp8"),
    "MXFP4_DEFAULT_CFG": ("mxfp4", "mxfp4"),
    "W4A8_MXFP4_FP8_CFG": ("mxfp4", "fp8"),
    "INT4_AWQ_CFG": ("int4_b128", None),
    "W4A8_AWQ_BETA_CFG": ("int4_b128_fp8", "fp8"),
    "INT8_DEFAULT_CFG": ("int8_row", "int8"),
    "INT8_WEIGHT_ONLY_CFG": ("int8_row", None),
}
"""The peer's configuration, and our formats of weights and inputs."""

OUR_ENTRIES = {"group_size", "has_zero_point", "pre_quant_scale"}
"""What we say at the top level of config.json beyond the peer: TensorRT-LLM and vLLM look for it there."""

Found = Mapping[str, Tensor]


@dataclass(frozen=True)
class Both:
    """What both wrote, and the weights that both started from."""

    ours: Found
    theirs: Found
    source: Found


@dataclass(frozen=True)
class Explained:
    """A difference with its reason, and the test that it is that one."""

    why: str
    holds: Callable[[str, Both], bool]


def _ones_more(name: str, both: Both) -> bool:
    extra = name.endswith(".pre_quant_scale") and name not in both.theirs
    return extra and bool((both.ours[name] == 1).all())


def _shared_scale(name: str, both: Both) -> bool:
    """Ours is the largest of the peer's scales of the layers that share ours: q, k and v, or gate and up."""
    if not name.endswith(".weight_scale") or both.ours[name].dim():
        return False
    block = name.rsplit(".", 2)[0]
    sharing = [n for n in both.ours if n.startswith(f"{block}.") and n.endswith(".weight_scale")]
    sharing = [n for n in sharing if torch.equal(both.ours[n], both.ours[name])]
    return len(sharing) > 1 and bool(max(both.theirs[n] for n in sharing) == both.ours[name])


def _fp8_quotient(name: str, both: Both) -> bool:
    """Ours is weight / scale in fp32, theirs in bf16, both rounded to FP8 once more, each with its own scale."""
    scale = f"{name}_scale"
    if not name.endswith(".weight") or both.ours[name].dtype != torch.float8_e4m3fn or both.ours[scale].dim():
        return False
    ours = (both.source[name].float() / both.ours[scale]).to(torch.float8_e4m3fn)
    theirs = (both.source[name] / both.theirs[scale]).to(torch.float8_e4m3fn)
    return _same_bits(ours, both.ours[name]) and _same_bits(theirs, both.theirs[name])


def _fp4_ties(name: str, both: Both) -> bool:
    """Every code that differs belongs to a value exactly between two; and the scales are the same bytes."""
    scale = f"{name}_scale"
    if not name.endswith(".weight") or both.ours[name].dtype != torch.uint8 or scale not in both.ours:
        return False
    if both.ours[scale].dtype != torch.uint8 or not _same_bits(both.ours[scale], both.theirs[scale]):
        return False
    ours, theirs = (torch.stack((t & 15, t >> 4), -1).flatten(1) for t in (both.ours[name], both.theirs[name]))
    step = 2.0 ** (both.ours[scale].float() - 127)
    units = both.source[name].float().abs() / step.repeat_interleave(32, dim=1)
    between = torch.isin(units, torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]))
    return bool((between | (ours == theirs)).all())


EXPLAINED = (
    Explained("scales of one which TensorRT-LLM demands of every layer, where the peer writes none", _ones_more),
    Explained("one scale for layers that a server fuses, the largest of the peer's", _shared_scale),
    Explained("codes of the scales at hand; the peer divides in bf16, and we in fp32", _fp8_quotient),
    Explained("values exactly between two FP4 codes: ties to even with us", _fp4_ties),
)


def compare(both: Both) -> tuple[int, Counter[str], list[str]]:
    """How many tensors are equal bit for bit, how many differ for which reason, and all other differences."""
    equal, explained, open_questions = 0, Counter[str](), []
    for name in sorted(both.ours.keys() | both.theirs.keys()):
        a, b = both.ours.get(name), both.theirs.get(name)
        if a is not None and b is not None and _same_bits(a, b):
            equal += 1
            continue
        reason = next((known.why for known in EXPLAINED if a is not None and known.holds(name, both)), None)
        if reason is None:
            open_questions.append(f"{name}: {_shown(a)}, {_shown(b)}{_how_much(a, b)}")
        else:
            explained[reason] += 1
    return equal, explained, open_questions


def _same_bits(a: Tensor, b: Tensor) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8))


def _shown(tensor: Tensor | None) -> str:
    return "absent" if tensor is None else f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _how_much(a: Tensor | None, b: Tensor | None) -> str:
    if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
        return ""
    apart = a.float() != b.float()
    return f", {int(apart.sum())} of {apart.numel()} differ"


def compare_json(ours: Any, theirs: Any, where: str = "") -> list[str]:
    """Entries that differ, by their path; what we say beyond the peer is listed too."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = sorted(ours.keys() | theirs.keys())
        return [line for key in keys for line in compare_json(ours.get(key), theirs.get(key), f"{where}.{key}")]
    return [] if ours == theirs else [f"{where.lstrip('.')}: {ours!r}, theirs {theirs!r}"]


def make_model(folder: Path) -> None:
    """A Llama with grouped queries, random weights in bf16, and token ids to calibrate on."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).eval().to(torch.bfloat16).save_pretrained(folder)
    ids = torch.randint(0, 64, (2, 16), generator=torch.Generator().manual_seed(1))
    save_file({"ids": ids}, folder / "ids.safetensors")


def export_ours(folder: Path, out: Path, weight: str, given: Slot) -> None:
    """The same with mtcore."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    first: dict[str, Any] = {"weight": weight} | ({} if given is None else {"input": given})
    ids = load_file(folder / "ids.safetensors")["ids"]
    quantized = quantize(model, {"rules": [first, {"include": "base_exclusions"}]}, [{"input_ids": ids}])
    config = json.loads((folder / "config.json").read_text())
    export_model(quantized, out, dialect="modelopt", source=SourceFiles(config))


def measure(name: str, folder: Path, peer: Path, out: Path) -> dict[str, Any]:
    weight, given = CONFIGS[name]
    error = peer / f"{name}.error"
    if error.exists():
        return {"config": name, "peer failed": error.read_text()}
    export_ours(folder, out, weight, given)
    files = (at / "model.safetensors" for at in (out, peer / name, folder))
    equal, explained, unexplained = compare(Both(*map(load_file, files)))
    said = {}
    for file, key in (("config.json", "quantization_config"), ("hf_quant_config.json", "quantization")):
        ours, theirs = (json.loads((at / file).read_text())[key] for at in (out, peer / name))
        beyond = OUR_ENTRIES - theirs.keys() if file == "config.json" else set()
        said[file] = compare_json({k: v for k, v in ours.items() if k not in beyond}, theirs)
    row = {"config": name, "weight": weight, "input": given, "equal": equal, "explained": dict(explained)}
    return {**row, "unexplained": unexplained, "said otherwise": said}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True, help="python of an environment with nvidia-modelopt")
    parser.add_argument("--configs", default=",".join(CONFIGS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = options.configs.split(",")
    with tempfile.TemporaryDirectory() as place:
        folder, peer = Path(place) / "model", Path(place) / "peer"
        make_model(folder)
        worker = Path(__file__).with_name("modelopt_export_worker.py")
        line = [options.peer_python, str(worker), str(folder), str(peer), options.configs]
        subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        rows = [measure(name, folder, peer, Path(place) / "ours" / name) for name in names]
    for row in rows:
        print(f"{row['config']}: {row.get('equal', 0)} tensors equal, explained {row.get('explained', {})}")
        for line in row.get("unexplained", [row.get("peer failed")]):
            print(f"    UNEXPLAINED {line}")
        for file, lines in row.get("said otherwise", {}).items():
            for line in lines:
                print(f"    {file}: {line}")
    if options.json is not None:
        facts = {"machine": machine(), "torch": version("torch"), "rows": rows}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    return int(any(row.get("unexplained", True) or any(row["said otherwise"].values()) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
