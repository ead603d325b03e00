"""The core's Tokenizer over a transformers tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class HfTokenizer:
    """Implements `mtcore.flow.loaded.Tokenizer`; the tokenizer itself stays reachable as `wrapped`."""

    wrapped: PreTrainedTokenizerBase

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without a begin-of-sequence token."""
        # verbose=False: text longer than the model's context is expected here; it is cut into chunks later
        ids: list[int] = self.wrapped.encode(text, add_special_tokens=False, verbose=False)
        return ids

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens left out."""
        text = self.wrapped.decode(ids, skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    @property
    def has_chat_template(self) -> bool:
        return bool(self.wrapped.chat_template)

    def chat_text(self, messages: list[dict[str, Any]]) -> str:
        """A conversation as the model's own chat template writes it, special tokens included.

        Raises:
            ValueError, TypeError, jinja2.TemplateError: the template does not take these messages.
        """
        # Not every version of transformers, and not every template, minds what is no message.
        if not isinstance(messages, list) or not all(isinstance(m, dict) and "role" in m for m in messages):
            raise TypeError("one conversation was expected: a list of messages, each with its role")
        return str(self.wrapped.apply_chat_template(messages, tokenize=False))

    @property
    def bos_id(self) -> int | None:
        """The token that begins a sequence, or None where the model has none."""
        bos: int | None = self.wrapped.bos_token_id
        return bos
