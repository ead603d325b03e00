"""Evaluation: held-out perplexity and bits per byte of a checkpoint, on any machine.

    python evaluate.py                 # the package's checkpoint and text; a minute on two CPU cores
    python evaluate.py --model model/ --text evaluation.txt --unigram data/tokens.bin --json

The text is one token stream, cut into chunks of the start token and 511 tokens. Each of the 511 is scored
given what stands before it in its chunk. The bf16 weights are computed with in float32.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = Path(__file__).parent.parent / "src" / "mtopt_tinylm"
CHUNK = 511  # scored tokens a chunk


def token_ids(model_dir: Path, text: str) -> list[int]:
    """The text's tokens without start tokens."""
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


@torch.inference_mode()
def negative_log_likelihood(model_dir: Path, ids: list[int]) -> float:
    """The sum over all tokens of -ln p(token), in nats."""
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    total = 0.0
    for start in range(0, len(ids), CHUNK):
        chunk = torch.tensor([model.config.bos_token_id, *ids[start : start + CHUNK]])
        logits = model(chunk[None, :-1]).logits[0]  # [tokens, vocabulary]
        total += functional.cross_entropy(logits, chunk[1:], reduction="sum").item()
    return total


def unigram_perplexity(training_tokens: Path, ids: list[int], vocabulary: int) -> float:
    """Perplexity of token frequencies in the training stream, add-one smoothed."""
    counts = np.bincount(np.fromfile(training_tokens, dtype="<u2"), minlength=vocabulary) + 1
    return math.exp(-float(np.log(counts / counts.sum())[ids].mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=PACKAGE / "checkpoint")
    parser.add_argument("--text", type=Path, default=PACKAGE / "text" / "evaluation.txt")
    parser.add_argument("--unigram", type=Path, help="tokens.bin of the training run: adds the unigram model")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")
    ids = token_ids(options.model, text)
    nll = negative_log_likelihood(options.model, ids)
    result = {
        "perplexity": round(math.exp(nll / len(ids)), 3),
        "bits_per_byte": round(nll / math.log(2) / len(text.encode()), 4),
        "tokens": len(ids),
        "bytes": len(text.encode()),
    }
    if options.unigram:
        vocabulary = json.loads((options.model / "config.json").read_text())["vocab_size"]
        result["unigram_perplexity"] = round(unigram_perplexity(options.unigram, ids, vocabulary), 1)
    print(json.dumps(result) if options.json else "\n".join(f"{k}: {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
