"""Serves checkpoints with vLLM, in an environment that has it, and keeps the log-probabilities of their prompts.

    VENV/bin/python bench/clients/vllm_serve.py FOLDER --dtypes bfloat16,float32 [--processes 4]

FOLDER comes from `vllm_check.py write`. Every process serves one checkpoint after the other; one that dies is
started again with those that are left. What vLLM said lies beside each checkpoint in `answer.DTYPE.json`; what is
there already is not served again.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agreement import last_error

KV_BYTES = 256 * 2**20
SETTINGS = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "HF_HUB_OFFLINE": "1",
}


def serve(folder: Path, dtypes: Sequence[str], processes: int, seconds: float) -> None:
    """Serve every checkpoint that was written, in every dtype."""
    facts = {path.parent: json.loads(path.read_text()) for path in sorted(folder.glob("*/reference.json"))}
    waiting = [
        answer_of(path, dtype)
        for dtype in dtypes
        for path, found in facts.items()
        if "why" not in found and not answer_of(path, dtype).exists()
    ]
    shares = [waiting[start::processes] for start in range(processes)]
    running = [(_start(share), share) for share in shares if share]
    deadline = time.monotonic() + seconds
    while running and time.monotonic() < deadline:
        process, share = running.pop(0)
        if process.poll() is None:
            running.append((process, share))
            time.sleep(0.2)
            continue
        left = [path for path in share if not path.exists()]
        if left:  # the first of them killed it
            log = _log(share[0]).read_text(errors="replace")
            _say(left[0], {"why": last_error(log) or f"the server ended with {process.returncode}"})
            if left[1:]:
                running.append((_start(left[1:]), left[1:]))
    for process, _ in running:
        process.kill()


def answer_of(folder: Path, dtype: str) -> Path:
    """Where the answer about a checkpoint lies."""
    return folder / f"answer.{dtype}.json"


def _log(answer: Path) -> Path:
    return answer.with_suffix(".log")


def _start(share: list[Path]) -> subprocess.Popen[bytes]:
    with _log(share[0]).open("wb") as log:
        command = [sys.executable, __file__, "--answers", *map(str, share)]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def _work(share: Sequence[Path]) -> None:
    import torch

    for path in share:
        dtype = path.name.split(".")[1]
        prompts = json.loads((path.parent / "reference.json").read_text())["prompts"]
        try:
            found = log_probabilities(str(path.parent), prompts, dtype)
            _say(path, {"served": [value for prompt in found for value in prompt]})
        except Exception as error:  # noqa: BLE001  the row says what stopped it
            _say(path, {"why": f"{type(error).__name__}: {error}"[:300]})
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def log_probabilities(folder: str, prompts: list[list[int]], dtype: str) -> list[list[float]]:
    """Of every token but the first of each prompt, from vLLM on the GPU, or on the CPU where there is none."""
    os.environ |= SETTINGS
    import torch

    options: dict[str, Any] = {}
    if torch.cuda.is_available():
        options = {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": KV_BYTES}
    else:
        from vllm_cpu_ops import supply

        supply()
    from vllm import LLM, SamplingParams

    llm = LLM(
        folder,
        dtype=dtype,
        max_model_len=512,
        enforce_eager=True,
        max_num_seqs=4,
        skip_tokenizer_init=True,
        **options,
    )
    wanted = SamplingParams(prompt_logprobs=0, max_tokens=1, detokenize=False)
    outputs = llm.generate([{"prompt_token_ids": p} for p in prompts], wanted)
    return [
        [entry[token].logprob for token, entry in zip(p[1:], output.prompt_logprobs[1:], strict=True)]
        for p, output in zip(prompts, outputs, strict=True)
    ]


def _say(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--dtypes", default="bfloat16", help="to serve in, with commas")
    parser.add_argument("--processes", type=int, default=1, help="beside each other")
    parser.add_argument("--seconds", type=float, default=7200, help="stop after this time")
    parser.add_argument("--answers", type=Path, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.answers:
        _work(options.answers)
    else:
        serve(options.folder, options.dtypes.split(","), options.processes, options.seconds)


if __name__ == "__main__":
    main()
