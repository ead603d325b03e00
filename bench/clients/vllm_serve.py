"""Log-probabilities of prompts from vLLM, in an environment that has it; started by vllm_check.py.

VENV/bin/python bench/clients/vllm_serve.py DIRECTORY PROMPTS.json RESULT.json DTYPE
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ |= {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def main(folder: str, prompts: Path, result: Path, dtype: str) -> None:
    from vllm_cpu_ops import supply

    supply()
    from vllm import LLM, SamplingParams

    llm = LLM(folder, dtype=dtype, max_model_len=512, enforce_eager=True, max_num_seqs=4, skip_tokenizer_init=True)
    wanted = SamplingParams(prompt_logprobs=0, max_tokens=1, detokenize=False)
    ids = json.loads(prompts.read_text())
    found = []
    for prompt, output in zip(ids, llm.generate([{"prompt_token_ids": p} for p in ids], wanted), strict=True):
        found.append(
            [entry[token].logprob for token, entry in zip(prompt[1:], output.prompt_logprobs[1:], strict=True)]
        )
    result.write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
