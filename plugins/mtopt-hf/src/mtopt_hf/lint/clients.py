"""The four clients as records: what each takes a checkpoint for, and with what it runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from mtcore.lint import Checkpoint, ClientSpec, Reading
from mtopt_hf.lint.config import Declared, in_config, in_file
from mtopt_hf.lint.view import view_of
from mtopt_hf.served import support


def clients() -> Iterator[ClientSpec]:
    """vLLM, TensorRT-LLM, transformers and SGLang."""
    yield ClientSpec("vllm", "vLLM 0.32, read in its source and run on a CPU", _reader("vllm"))
    yield ClientSpec("trtllm", "TensorRT-LLM 1.x (PyTorch backend), read in its source", _reader("trtllm"))
    yield ClientSpec("transformers", "transformers 5.23, run on a CPU", _reader("transformers"), aliases=("hf",))
    yield ClientSpec(
        "sglang", "SGLang 0.5, read in its source; its reading of configurations was run", _reader("sglang")
    )


def _reader(client: str) -> Callable[[Checkpoint], Reading]:
    def read(checkpoint: Checkpoint) -> Reading:
        says = _followed(client, checkpoint)
        if not says.method:
            return Reading("unquantized", f"plain weights of {len(checkpoint.tensors)} tensors")
        kinds = Counter(module.scheme.kind for module in view_of(checkpoint).quantized if module.scheme is not None)
        shown = ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no quantized layer"
        schemes = [group.scheme for group in says.groups] or [*says.layers.values()]
        schemes += [says.everywhere] if says.everywhere is not None else []
        hows = dict.fromkeys(support(client, scheme.stored(says.method)).how for scheme in schemes)
        return Reading(f"{shown} ({says.word}, {says.file})", "; ".join(hows) or "nothing that it knows")

    return read


def _followed(client: str, checkpoint: Checkpoint) -> Declared:
    """TensorRT-LLM follows hf_quant_config.json where there is one, the others config.json."""
    inline, file = in_config(checkpoint), in_file(checkpoint)
    if client == "trtllm" and file.method:
        return file
    if client == "transformers":
        return inline
    return inline if inline.method else file
