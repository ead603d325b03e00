"""Whether vLLM on a GPU computes from our checkpoints what our quantized models compute.

    python bench/clients/vllm_gpu.py write DIRECTORY                     # where mtcore is
    python bench/clients/vllm_gpu.py serve DIRECTORY --json RESULT.json  # where vLLM and the GPU are
    python bench/clients/vllm_gpu.py table --json RESULT.json

The models, the formats and the judgement are those of vllm_check.py, and more formats: an FP8 cache, FP8 in blocks.
Several processes serve on one GPU; one that dies is started again with the checkpoints that are left.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agreement import judged, last_error

PROCESSES = 4
KV_BYTES = 256 * 2**20
LIMIT_S = 400
EXTRA = {
    "FP8, KV cache FP8": ("compressed-tensors", "fp8_kv_fp8"),
    "modelopt FP8, KV cache FP8": ("modelopt", "fp8_kv_fp8"),
    "FP8 blocks": ("compressed-tensors", "fp8_block"),
    "modelopt FP8_PB_WO": ("modelopt", "fp8_block_weight_only"),
}
"""Beyond those of vllm_check.py: the dialect and the recipe."""


def write(folder: Path, models: list[str]) -> None:
    """A checkpoint and its reference for every model and format; what cannot be written is noted in its place."""
    import vllm_check
    from clients_models import save_source

    from mtopt_hf.quiet import quiet_transformers

    vllm_check.FORMATS.update(EXTRA)
    with quiet_transformers(), tempfile.TemporaryDirectory() as work:
        for model in models:
            source, prompts = save_source(model, Path(work) / model, vllm_check.PROMPTS, vllm_check.TOKENS)
            for form, (dialect, recipe) in vllm_check.FORMATS.items():
                out = folder / f"{model}_{form}".replace(", ", "-").replace(" ", "-")
                facts: dict[str, Any] = {"model": model, "format": form, "prompts": prompts}
                try:
                    found = vllm_check.quantize(source, recipe, dialect, out, prompts)
                    facts |= dict(zip(("fp32", "bf16", "plain"), (x.tolist() for x in found), strict=True))
                except Exception as error:  # noqa: BLE001  the row says what stopped it
                    out.mkdir(parents=True, exist_ok=True)
                    facts["why"] = f"{type(error).__name__}: {error}"[:300]
                (out / "reference.json").write_text(json.dumps(facts))
                print(f"{model}, {form}: {facts.get('why', 'written')}", flush=True)


def serve(folder: Path, result: Path) -> None:
    """Serve every checkpoint, judge, and write a row for each."""
    found = {path.parent: json.loads(path.read_text()) for path in sorted(folder.glob("*/reference.json"))}
    waiting = [path for path, facts in found.items() if "why" not in facts]
    shares = [waiting[start::PROCESSES] for start in range(PROCESSES)]
    running: list[tuple[subprocess.Popen[bytes], list[Path]]] = [(start(share), share) for share in shares if share]
    deadline = time.monotonic() + LIMIT_S
    while running and time.monotonic() < deadline:
        process, share = running.pop(0)
        if process.poll() is None:
            running.append((process, share))
            time.sleep(0.2)
            continue
        left = [path for path in share if not (path / "answer.json").exists()]
        if left:  # the first of them killed it
            log = (left[0] / "serve.log").read_text(errors="replace") if (left[0] / "serve.log").exists() else ""
            answer(left[0], {"why": last_error(log) if log else f"the server ended with {process.returncode}"})
            if left[1:]:
                running.append((start(left[1:]), left[1:]))
    for process, _ in running:
        process.kill()
    rows = [judge(path, facts) for path, facts in found.items()]
    result.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def start(share: list[Path]) -> subprocess.Popen[bytes]:
    """A process that serves some checkpoints, one after the other."""
    with (share[0] / "serve.log").open("wb") as log:
        command = [sys.executable, __file__, "worker", *map(str, share)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def worker(share: list[Path]) -> None:
    """Log-probabilities of the prompts from vLLM, for each checkpoint."""
    os.environ |= {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_USE_DEEP_GEMM": "0",
        "HF_HUB_OFFLINE": "1",
        "VLLM_LOGGING_LEVEL": "WARNING",
    }
    import gc

    import torch
    from vllm import LLM, SamplingParams

    wanted = SamplingParams(prompt_logprobs=0, max_tokens=1, detokenize=False)
    for path in share:
        ids = json.loads((path / "reference.json").read_text())["prompts"]
        try:
            llm = LLM(
                str(path),
                dtype="bfloat16",
                max_model_len=512,
                enforce_eager=True,
                max_num_seqs=4,
                skip_tokenizer_init=True,
                gpu_memory_utilization=0.1,
                kv_cache_memory_bytes=KV_BYTES,
            )
            outputs = llm.generate([{"prompt_token_ids": p} for p in ids], wanted)
            found = [
                [entry[token].logprob for token, entry in zip(p[1:], output.prompt_logprobs[1:], strict=True)]
                for p, output in zip(ids, outputs, strict=True)
            ]
            answer(path, {"served": [value for prompt in found for value in prompt]})
            del llm
        except Exception as error:  # noqa: BLE001  the row says what stopped it
            answer(path, {"why": f"{type(error).__name__}: {error}"[:300]})
        gc.collect()
        torch.cuda.empty_cache()


def answer(path: Path, content: dict[str, Any]) -> None:
    """What became of a checkpoint."""
    (path / "answer.json").write_text(json.dumps(content))


def judge(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """One row, as in vllm_check.py."""
    row: dict[str, Any] = {"model": facts["model"], "format": facts["format"]}
    if "why" in facts:
        return {**row, "result": "not written", "why": facts["why"]}
    said = json.loads((path / "answer.json").read_text()) if (path / "answer.json").exists() else {"why": "no time"}
    if "why" in said:
        return {**row, "result": "not served", "why": said["why"]}
    return judged(row, said["served"], facts["fp32"], facts["bf16"], facts["plain"])


def main() -> None:
    """Write, serve or show."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["write", "serve", "worker", "table"])
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--models", default="dense,tied,MoE")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.step == "write":
        known = {"dense": "dense", "tied": "tied, GQA", "MoE": "MoE", "trained": "trained, GQA"}
        write(options.folders[0], [known[name] for name in options.models.split(",")])
    elif options.step == "serve":
        serve(options.folders[0], options.json)
    elif options.step == "worker":
        worker(options.folders)
    else:
        import vllm_check

        vllm_check.FORMATS.update(EXTRA)
        print(vllm_check.table([json.loads(line) for line in options.json.read_text().splitlines()]))


if __name__ == "__main__":
    main()
