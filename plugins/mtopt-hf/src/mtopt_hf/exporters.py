"""The exporters of this plugin, as records."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from mtcore.export import Client, ExporterSpec
from mtopt_hf import autoawq, ct, fp8, gptq, modelopt, mxfp4
from mtopt_hf.checkpoint import apart_notes, apart_problems, source_problems


def exporters() -> Iterator[ExporterSpec]:
    """The dialects that this plugin writes."""
    yield ExporterSpec(
        name="compressed-tensors",
        summary="safetensors checkpoint for transformers, vLLM and SGLang",
        check=ct.check_plan,
        write=ct.write_checkpoint,
        notes=ct.notes,
        clients=(
            *(
                Client(
                    name,
                    why,
                    check=partial(ct.client_problems, name),
                    check_source=partial(apart_problems, name),
                )
                for name, why in {
                    "vllm": "vLLM runs more formats of it than of any other dialect",
                    "hf": "transformers reads it with the compressed-tensors package, on any device",
                    "sglang": "SGLang reads it with the same schemes as vLLM",
                }.items()
            ),
        ),
        shards=True,
        check_source=source_problems,
        notes_source=apart_notes,
    )
    yield ExporterSpec(
        name="modelopt",
        summary="safetensors checkpoint in the layout of NVIDIA ModelOpt, for TensorRT-LLM and vLLM",
        check=modelopt.check_plan,
        write=modelopt.write_checkpoint,
        notes=modelopt.notes,
        clients=(
            Client(
                "trtllm",
                "TensorRT-LLM's PyTorch backend reads all of its linear layouts in it",
                check=partial(modelopt.client_problems, "trtllm"),
                check_source=partial(apart_problems, "trtllm"),
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
        notes_source=apart_notes,
        holds=modelopt.holds,
    )
    yield ExporterSpec(
        name="fp8",
        summary="safetensors checkpoint with FP8 tiles and weight_scale_inv, as DeepSeek writes them",
        check=fp8.check_plan,
        write=fp8.write_checkpoint,
        notes=fp8.notes,
        clients=(
            *(
                Client(name, why, rank=1, check_source=partial(apart_problems, name))
                for name, why in {
                    "trtllm": "TensorRT-LLM reads DeepSeek's checkpoints, which modelopt cannot hold",
                    "sglang": "SGLang reads DeepSeek's checkpoints",
                }.items()
            ),
        ),
        shards=True,
        check_source=source_problems,
        notes_source=apart_notes,
    )
    yield ExporterSpec(
        name="mxfp4",
        summary="safetensors checkpoint with the experts of gpt-oss in MXFP4, as OpenAI writes them",
        check=mxfp4.check_plan,
        write=mxfp4.write_checkpoint,
        notes=mxfp4.notes,
        clients=(
            Client("hf", "transformers reads gpt-oss with experts in MXFP4, on any device", rank=1),
            Client("vllm", "vLLM reads gpt-oss with experts in MXFP4", rank=2),
        ),
        shards=True,
        check_source=mxfp4.check_source,
    )
    yield ExporterSpec(
        name="awq",
        summary="safetensors checkpoint with 4-bit weights in AutoAWQ's layout (gemm)",
        check=autoawq.check_plan,
        write=autoawq.write_checkpoint,
        notes=autoawq.notes,
        shards=True,
        check_source=source_problems,
        notes_source=apart_notes,
    )
    yield ExporterSpec(
        name="gptq",
        summary="safetensors checkpoint with 2-, 3-, 4- or 8-bit weights in GPTQ's layout, version 1 or 2",
        check=gptq.check_plan,
        write=gptq.write_checkpoint,
        notes=gptq.notes,
        shards=True,
        check_source=source_problems,
        notes_source=apart_notes,
    )
