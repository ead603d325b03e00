"""The tokenizer: trains a byte-level BPE of 4096 tokens on the corpus and encodes the corpus with it.

    python tokenizer.py --corpus corpus/ --out data/

Writes `tokenizer.json` and `tokenizer_config.json` (as transformers loads them) and `tokens.bin`:
uint16, little endian, every training document followed by the end token.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCAB_SIZE = 4096
BOS, EOS, PAD = "<s>", "</s>", "<pad>"  # ids 0, 1, 2
SAMPLE = 12  # the merges are learned on every 12th document
CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "bos_token": BOS,
    "eos_token": EOS,
    "pad_token": PAD,
    "model_max_length": 1024,
    "clean_up_tokenization_spaces": False,
    "model_input_names": ["input_ids", "attention_mask"],
}


def read_documents(corpus: Path) -> Iterator[str]:
    with (corpus / "train.jsonl").open() as file:
        for line in file:
            yield json.loads(line)["text"]


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """Byte-level BPE, every digit a token, the start token put in front by the post-processor."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Iterator[str]) -> np.ndarray:
    """All documents as one stream of token ids, shape [tokens], uint16."""
    end = tokenizer.token_to_id(EOS)
    parts = []
    while batch := list(islice(texts, 512)):
        for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
            parts.append(np.array([*encoding.ids, end], dtype="<u2"))
    return np.concatenate(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--corpus", type=Path, default=Path("corpus"))
    parser.add_argument("--out", type=Path, default=Path("data"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(islice(read_documents(options.corpus), 0, None, SAMPLE))
    tokenizer.save(str(options.out / "tokenizer.json"), pretty=False)
    (options.out / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    tokens = encode(tokenizer, read_documents(options.corpus))
    tokens.tofile(options.out / "tokens.bin")
    print(f"{len(tokens)} tokens, sha256 {hashlib.sha256(tokens.tobytes()).hexdigest()}")


if __name__ == "__main__":
    main()
