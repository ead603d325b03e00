"""What a model loader gives: the model and everything that came with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor, nn

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
        warnings: what a user should know of how it was loaded, a line each; tensors that no part of it took, say.
            A run tells them, and they are findings of its plan.
        positions: how many tokens at once its configuration says it was made for, or None where it says nothing.
    """

    model: nn.Module
    source: str
    tokenizer: Tokenizer | None = None
    files: SourceFiles = field(default_factory=SourceFiles)
    example_inputs: dict[str, Any] = field(default_factory=dict)
    loader: str = ""
    predicts_next: bool = True
    quantized_as: str | None = None
    warnings: tuple[str, ...] = ()
    positions: int | None = None

    @property
    def has_weights(self) -> bool:
        """Whether every parameter has values; one that was made from a configuration alone has shapes only."""
        return all(parameter.device.type != "meta" for parameter in self.model.parameters())


def with_more_inputs(loaded: LoadedModel, batches: Sequence[Any]) -> LoadedModel:
    """The model with an example that reaches what its data reach: where the first batch has floats that the
    example inputs lack (images beside tokens), its first row takes their place in the trace."""
    first = batches[0] if batches else None
    if not isinstance(first, dict):
        return loaded
    tensors = {name: value for name, value in first.items() if isinstance(value, Tensor) and value.dim()}
    floats = {name for name, value in tensors.items() if value.is_floating_point()}
    if floats <= loaded.example_inputs.keys():
        return loaded
    dtype = next((p.dtype for p in loaded.model.parameters() if p.is_floating_point()), None)
    rows = {name: value[:1].to(dtype) if name in floats else value[:1] for name, value in tensors.items()}
    return replace(loaded, example_inputs={**first, **rows})
