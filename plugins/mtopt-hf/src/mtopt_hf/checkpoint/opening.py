"""What stops transformers from opening a compressed-tensors checkpoint: its own steps, taken on an empty model.

Read in transformers 5.23 (`modeling_utils.py`, `quantizers/base.py`, `integrations/compressed_tensors.py`). Before
the files are read, a layer whose codes are packed has no `weight`, and each merge of the hub's tensors into one is
told to look for codes, whatever it merges.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mtopt_hf.checkpoint.hub import skeleton_of
from mtopt_hf.quiet import quiet_transformers

PACKED = ".weight_packed"


@dataclass(frozen=True)
class Stop:
    """One thing that stops it.

    Attributes:
        where: a module in memory, or a tensor of the files; empty for the whole model.
        why: what happens there.
        decoded: whether it opens with `CompressedTensorsConfig(dequantize=True)` nevertheless.
    """

    where: str
    why: str
    decoded: bool = False


def stops_of(config: Mapping[str, Any], names: Collection[str]) -> list[Stop]:
    """What would stop it; empty where it would open, or where that cannot be told.

    Args:
        config: content of config.json, with a compressed-tensors `quantization_config`.
        names: of all tensors of the files.

    Raises:
        Exception: whatever transformers raises for a configuration that it cannot build.
    """
    skeleton = skeleton_of(config)
    if skeleton is None:
        return []
    from transformers.conversion_mapping import get_model_conversion_mapping

    model = copy.deepcopy(skeleton)
    with quiet_transformers():
        quantizer = _quantizer(config["quantization_config"])  # imports tables, which must not lie on meta
        with torch.device("meta"):
            quantizer.preprocess_model(model)
    try:
        conversions = get_model_conversion_mapping(model, None, quantizer)
    except ValueError as error:
        why = str(error).split(" but ")[-1]
        return [Stop("", f"of its conversion of the hub's weights that splits one it says {why}")]
    return [*_merges(conversions, names, quantizer), *_first_values(model)]


def _quantizer(settings: Mapping[str, Any]) -> Any:
    """transformers' own, also while ours stands in its place."""
    from transformers import CompressedTensorsConfig
    from transformers.quantizers.quantizer_compressed_tensors import CompressedTensorsHfQuantizer

    plain = {key: value for key, value in settings.items() if key != "quant_method"}
    quantizer = CompressedTensorsHfQuantizer(CompressedTensorsConfig(**plain), pre_quantized=True)
    # it decides here whether there are FP8 kernels
    quantizer.validate_environment()  # type: ignore[no-untyped-call]
    return quantizer


def _merges(conversions: list[Any], names: Collection[str], quantizer: Any) -> Iterator[Stop]:
    """A merge that decodes first takes codes alone, unless they are FP8; of floats it makes an empty list."""
    from transformers.integrations.compressed_tensors import CompressedTensorsDequantize, get_experts_scheme

    scheme = get_experts_scheme(quantizer.compressor.quantization_config)  # type: ignore[no-untyped-call]
    weights = scheme.weights
    if weights is None or (weights.type == "float" and weights.num_bits == 8):
        return
    for conversion in conversions:
        operations = getattr(conversion, "operations", ())
        if not any(isinstance(operation, CompressedTensorsDequantize) for operation in operations):
            continue
        targets: dict[str, list[str]] = {}
        for name in names:
            target, matched = conversion.rename_source_key(name)
            if matched is not None:
                targets.setdefault(target, []).append(name)
        for target, sources in targets.items():
            if not any(name.endswith(PACKED) for name in sources):
                why = (
                    f"it joins this with others to {target}, looks for packed codes of all of them, and finds none"
                )
                yield Stop(min(sources), why)


def _first_values(model: nn.Module) -> Iterator[Stop]:
    """Before the first forward, `_init_weights` of the architecture may ask a layer for the weight it lacks."""
    from transformers import PreTrainedModel
    from transformers.initialization import guard_torch_init_functions

    for tensor in (*model.parameters(), *model.buffers()):
        tensor._is_hf_initialized = True  # type: ignore[attr-defined]  # as if the files had had it
    owners = {name: one for name, one in model.named_modules() if isinstance(one, PreTrainedModel)}
    for name, module in model.named_modules():
        owner = owners[max((own for own in owners if not own or f"{name}.".startswith(f"{own}.")), key=len)]
        try:
            with torch.no_grad(), guard_torch_init_functions(), torch.device("meta"):
                owner._init_weights(module)  # type: ignore[no-untyped-call]
        except AttributeError as error:
            if "has no attribute 'weight'" in str(error):
                why = f"a {type(module).__name__} gives a first value to the weight of a layer that is packed"
                yield Stop(name, why, decoded=True)
                return
        except RuntimeError:
            continue  # values that an empty model does not have
