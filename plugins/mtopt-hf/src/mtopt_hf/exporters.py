"""The exporters of this plugin, as records."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mtcore.export import Client, ExporterSpec
from mtopt_hf import ct, modelopt
from mtopt_hf.checkpoint import source_problems


def exporters() -> Iterator[ExporterSpec]:
    """The dialects that this plugin writes."""
    yield ExporterSpec(
        name="compressed-tensors",
        summary="safetensors checkpoint for transformers, vLLM and SGLang",
        check=ct.check_plan,
        write=ct.write_checkpoint,
        clients=(
            *(
                Client(name, why, check=partial(ct.client_problems, name))
                for name, why in {
                    "vllm": "vLLM runs more formats of it than of any other dialect",
                    "hf": "transformers reads it with the compressed-tensors package, on any device",
                    "sglang": "SGLang reads it with the same schemes as vLLM",
                }.items()
            ),
        ),
        shards=True,
        check_source=source_problems,
    )
    yield ExporterSpec(
        name="modelopt",
        summary="safetensors checkpoint in the layout of NVIDIA ModelOpt, for TensorRT-LLM and vLLM",
        check=modelopt.check_plan,
        write=modelopt.write_checkpoint,
        clients=(
            Client(
                "trtllm",
                "TensorRT-LLM's PyTorch backend reads no other quantized checkpoint of Hugging Face models",
                check=partial(modelopt.client_problems, "trtllm"),
            ),
            Client(
                "vllm",
                "vLLM reads it where compressed-tensors cannot hold the plan",
                rank=1,
                check=partial(modelopt.client_problems, "vllm"),
            ),
        ),
        shards=True,
        check_source=source_problems,
        holds=modelopt.holds,
    )
