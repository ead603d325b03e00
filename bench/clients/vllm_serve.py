"""Log-probabilities from vLLM, in an environment that has it; started by vllm_check.py and vllm_experts.py.

    python bench/clients/vllm_serve.py DTYPE:DIRECTORY [DTYPE:DIRECTORY …]

Each directory has a checkpoint and `reference.json` with its prompts; `answer.DTYPE.json` is put beside them.
One process serves them one after the other: vLLM takes long to start and little for a small model.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",
    "VLLM_USE_DEEP_GEMM": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}
GPU = {"gpu_memory_utilization": 0.1, "kv_cache_memory_bytes": 64 * 2**20}
WHY = 400  # characters of a reason
LINES = 3  # places in the code that raised, from the innermost on


def main(tasks: list[str]) -> None:
    import torch
    from vllm.platforms import current_platform

    device = "cpu" if current_platform.is_cpu() else "gpu"
    if device == "cpu":
        from vllm_cpu_ops import supply

        supply()
    for task in tasks:
        dtype, _, name = task.partition(":")
        folder = Path(name)
        prompts = json.loads((folder / "reference.json").read_text())["prompts"]
        said: dict[str, Any] = {"device": device}
        try:
            said["served"] = [p for found in served(folder, prompts, dtype, device) for p in found]
        except Exception as error:  # noqa: BLE001  the row says what stopped it
            said |= {"why": f"{type(error).__name__}: {error}"[:WHY], "at": places(error)}
            traceback.print_exc()
        (folder / f"answer.{dtype}.json").write_text(json.dumps(said))
        gc.collect()
        if device == "gpu":
            torch.cuda.empty_cache()


def served(folder: Path, prompts: list[list[int]], dtype: str, device: str = "cpu") -> list[list[float]]:
    """Log-probabilities of every token but the first, a list a prompt."""
    from vllm import LLM, SamplingParams

    options: dict[str, Any] = GPU if device == "gpu" else {}
    llm = LLM(
        str(folder),
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
        [entry[token].logprob for token, entry in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)]
        for prompt, output in zip(prompts, outputs, strict=True)
    ]


def places(error: BaseException) -> list[str]:
    """The functions of vLLM that raised, the innermost first: file and name."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/vllm/" in frame.filename]
    return [f"{frame.filename.rpartition('/vllm/')[2]}: {frame.name}" for frame in reversed(frames)][:LINES]


if __name__ == "__main__":
    main(sys.argv[1:])
