"""What a model loader gives: the model and everything that came with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import nn

from mtcore.export.artifact import SourceFiles


class Tokenizer(Protocol):
    """What the core asks of a tokenizer: text to ids and back."""

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, without a begin-of-sequence token."""

    def decode(self, ids: list[int]) -> str:
        """The text of `ids`, special tokens left out."""

    @property
    def bos_id(self) -> int | None:
        """The token that begins a sequence, or None where the model was trained without one."""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode, ready to run, with its companions.

    Attributes:
        model: called as `model(input_ids=…)` where it is a language model.
        source: where it came from, for messages.
        tokenizer: None where the model has none.
        files: configuration and files that an exporter writes beside the weights.
        example_inputs: keyword arguments of one small forward, for the trace; empty: to be guessed.
        loader: name of the plugin that loaded it.
        predicts_next: whether it is a causal language model: perplexity is asked of no other.
        quantized_as: how the checkpoint is quantized already, or None; such a model can be run but not planned.
    """

    model: nn.Module
    source: str
    tokenizer: Tokenizer | None = None
    files: SourceFiles = field(default_factory=SourceFiles)
    example_inputs: dict[str, Any] = field(default_factory=dict)
    loader: str = ""
    predicts_next: bool = True
    quantized_as: str | None = None

    @property
    def has_weights(self) -> bool:
        """Whether every parameter has values; one that was made from a configuration alone has shapes only."""
        return all(parameter.device.type != "meta" for parameter in self.model.parameters())
