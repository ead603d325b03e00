"""A byte-pair tokenizer rebuilt from the vocabulary of a GGUF file.

Files made from a SentencePiece model list tokens, scores and types, but no merges. A merge is any split of a token
into two known tokens; the better the token's score, the earlier it is tried. transformers converts such files too,
but for some models (Gemma 3) the result splits words into fragments and adds no begin-of-sequence token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from mtcore.errors import ModelError

SPACE = "▁"
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4  # token types of the GGUF specification
_PREFIX = "tokenizer.ggml."


def is_sentencepiece(values: Mapping[str, Any]) -> bool:
    """Whether the header describes a SentencePiece vocabulary with scores (GGUF calls that tokenizer "llama")."""
    return values.get(f"{_PREFIX}model") == "llama" and f"{_PREFIX}scores" in values


def rebuild_tokenizer(values: Mapping[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer of a GGUF file's header.

    Raises:
        ModelError: the lists of tokens, scores and types do not fit together.
    """
    tokens: Sequence[str] = values[f"{_PREFIX}tokens"]
    scores: Sequence[float] = values[f"{_PREFIX}scores"]
    types: Sequence[int] = values.get(f"{_PREFIX}token_type", [_NORMAL] * len(tokens))
    if not len(tokens) == len(scores) == len(types):
        counts = f"{len(tokens)} tokens, {len(scores)} scores, {len(types)} types"
        raise ModelError(f"the tokenizer of the GGUF file does not fit together: {counts}")
    named = _named_tokens(values, tokens)
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=merges_of(tokens, scores, types),
            unk_token=named.get("unk_token"),
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = _normalizer(add_prefix=bool(values.get(f"{_PREFIX}add_space_prefix", True)))
    tokenizer.decoder = _decoder(add_prefix=bool(values.get(f"{_PREFIX}add_space_prefix", True)))
    tokenizer.add_tokens(
        [
            AddedToken(token, special=kind == _CONTROL, normalized=False)
            for token, kind in zip(tokens, types, strict=True)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    bos = named.get("bos_token")
    if bos is not None and values.get(f"{_PREFIX}add_bos_token", True):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary[bos])]
        )
    template = values.get("tokenizer.chat_template")
    wrapper: Any = PreTrainedTokenizerFast
    result: PreTrainedTokenizerFast = wrapper(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, chat_template=template, **named
    )
    return result


def merges_of(tokens: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> list[tuple[str, str]]:
    """Every split of a normal token into two known tokens, the best-scored token first, then by id.

    Example:
        >>> merges_of(["a", "b", "ab", "abb"], [0.0, 0.0, -1.0, -2.0], [1, 1, 1, 1])
        [('a', 'b'), ('ab', 'b')]
    """
    known = {token: index for index, token in enumerate(tokens)}
    order = sorted(range(len(tokens)), key=lambda index: (-scores[index], index))
    merges = []
    for index in order:
        token = tokens[index]
        if types[index] != _NORMAL or len(token) < 2:
            continue
        splits = [(token[:at], token[at:]) for at in range(1, len(token))]
        halves = [(left, right) for left, right in splits if left in known and right in known]
        merges += sorted(halves, key=lambda pair: (known[pair[0]], known[pair[1]]))
    return merges


def _named_tokens(values: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, str]:
    """bos, eos, unk and pad by transformers' names, where the header gives their ids."""
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {name: values.get(f"{_PREFIX}{key}_token_id") for name, key in keys.items()}
    return {name: tokens[index] for name, index in ids.items() if index is not None and index < len(tokens)}


def _normalizer(*, add_prefix: bool) -> normalizers.Normalizer:
    replace = normalizers.Replace(" ", SPACE)
    return normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if add_prefix else replace


def _decoder(*, add_prefix: bool) -> decoders.Decoder:
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if add_prefix else steps)
