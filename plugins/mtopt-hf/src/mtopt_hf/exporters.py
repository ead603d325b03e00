"""The exporters of this plugin, as records."""

from __future__ import annotations

from collections.abc import Iterator

from mtcore.export import Client, ExporterSpec
from mtopt_hf.ct import check_plan, write_checkpoint


def exporters() -> Iterator[ExporterSpec]:
    """The dialects that this plugin writes."""
    yield ExporterSpec(
        name="compressed-tensors",
        summary="safetensors checkpoint for transformers and vLLM",
        check=check_plan,
        write=write_checkpoint,
        clients=(
            Client("vllm", "vLLM runs every scheme that this exporter writes in it"),
            Client("hf", "transformers reads it with the compressed-tensors package"),
            Client("sglang", "SGLang reads it with the same schemes as vLLM"),
        ),
        shards=True,
    )
