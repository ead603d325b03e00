"""Rules on the tensors of a layer: there, of the right dtype and shape, and nothing that does not belong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from mtcore.lint import EVERYONE, Checkpoint, Hit, RuleSpec, Severity
from mtopt_hf.lint.layouts import Layout
from mtopt_hf.lint.names import SCALES
from mtopt_hf.lint.view import Module, view_of

_CACHE = {"k_scale", "v_scale", "q_scale", "k_bias", "v_bias", "bias", "output_scale"}


def _layers(checkpoint: Checkpoint) -> Iterator[tuple[Module, Layout]]:
    for module in view_of(checkpoint).quantized:
        if module.layout is not None and module.parts.keys() - _CACHE:
            yield module, module.layout


def missing(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, layout in _layers(checkpoint):
        for local, want in layout.wants.items():
            if want.needed and local not in module.parts:
                why = f"it is missing ({_called(module)}); clients raise, or compute with what lies in memory"
                yield Hit(f"{module.name}.{local}", why, "write the tensor, or correct the configuration")


def extra(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, layout in _layers(checkpoint):
        for local in module.parts:
            if local not in layout.wants and local not in _CACHE and local != "pre_quant_scale":
                why = f"{_called(module)} has no {local}; servers raise for a tensor that fits no parameter"
                yield Hit(f"{module.name}.{local}", why, "take it out, or correct the configuration")


def pre_scale(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, layout in _layers(checkpoint):
        if "pre_quant_scale" in module.parts and "pre_quant_scale" not in layout.wants:
            why = f"{_called(module)} has no pre_quant_scale, so the input is never multiplied by it"
            yield Hit(
                f"{module.name}.pre_quant_scale", why, "fold it into the layer before, or name an AWQ algorithm"
            )


def dtype(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, layout in _layers(checkpoint):
        for local, want in layout.wants.items():
            tensor = module.parts.get(local)
            if tensor is not None and tensor.dtype not in want.dtypes:
                why = f"it is {tensor.dtype}; {_called(module)} has {' or '.join(want.dtypes)} there"
                yield Hit(tensor.name, why, "write it in that dtype")


def shape(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, layout in _layers(checkpoint):
        features = module.features
        main = module.parts.get(layout.main)
        if features is None:
            if main is not None:
                why = f"{layout.main} has {len(main.shape)} axes; {_called(module)} has {layout.axes}"
                yield Hit(main.name, why, "write one matrix a layer")
            continue
        for local, want in layout.wants.items():
            tensor = module.parts.get(local)
            allowed = want.shapes(*features)
            if tensor is None or local == layout.main or not allowed or tensor.shape in allowed:
                continue
            if local in ("weight_zero_point", "weight_scale") and _ragged(module, tensor.shape, allowed):
                continue
            shown = " or ".join(str(list(one)) for one in allowed)
            why = f"it has shape {list(tensor.shape)}; for {features[0]} x {features[1]} weights it is {shown}"
            yield Hit(tensor.name, why, "write it in that shape")


def _ragged(module: Module, found: tuple[int, ...], allowed: tuple[tuple[int, ...], ...]) -> bool:
    """Whether codes that do not fill their last word explain the difference; `weight_shape` has the features."""
    scheme = module.scheme
    if scheme is None or scheme.kind != "pack" or scheme.group is None:
        return False
    return any(len(one) == len(found) and one[0] == found[0] and 0 <= one[-1] - found[-1] <= 1 for one in allowed)


def weight_shape(checkpoint: Checkpoint) -> Iterator[Hit]:
    if not checkpoint.has_values:
        return
    for module, layout in _layers(checkpoint):
        tensor, features = module.parts.get("weight_shape"), module.features
        if tensor is None or features is None or layout.main != "weight_packed" or module.scheme is None:
            continue
        values = checkpoint.values.small(tensor)
        if values is None or values.size != 2:
            continue
        (o, i), words = values.astype(int).tolist(), module.parts["weight_packed"].shape[1]
        if o != features[0] or i < 0 or -(-i * module.scheme.bits // 32) != words:
            why = f"it says {o} x {i}, but the codes are those of {features[0]} x {features[1]}"
            yield Hit(tensor.name, why, "write the shape of the weight before packing")


def divisible(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, layout in _layers(checkpoint):
        features, block = module.features, layout.block
        if features is None:
            continue
        columns = features[1]
        if block == 1 and module.scheme is not None and module.scheme.kind == "pack":
            columns, block = _packed_columns(checkpoint, module), module.scheme.group or 1
        if columns % block:
            why = f"{columns} input features are not a multiple of {block} ({_called(module)})"
            yield Hit(module.name, f"{why}; kernels refuse it", "leave the layer in floats")


def _packed_columns(checkpoint: Checkpoint, module: Module) -> int:
    """What `weight_shape` says where words do not tell how many columns are in them; 0 where it cannot be read."""
    tensor = module.parts.get("weight_shape")
    values = checkpoint.values.small(tensor) if tensor is not None and checkpoint.has_values else None
    return int(values[1]) if values is not None and values.size == 2 and values[1] > 0 else 0


def kernel_sizes(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, _ in _layers(checkpoint):
        features, scheme = module.features, module.scheme
        if features is None or scheme is None or min(features) < 16:
            continue
        if scheme.kind in ("fp8", "int8", "FP8", "FP8_PER_CHANNEL_PER_TOKEN") and (
            features[0] % 16 or features[1] % 16
        ):
            why = f"{features[0]} x {features[1]}: the scaled matrix product of CUDA wants multiples of 16"
            yield Hit(module.name, f"{why}; the client pads, or takes a slower kernel", "leave the layer in floats")


def packed_out(checkpoint: Checkpoint) -> Iterator[Hit]:
    for module, _ in _layers(checkpoint):
        scheme, features = module.scheme, module.features
        if scheme is None or features is None or scheme.kind not in ("awq", "gptq"):
            continue
        if features[0] % (32 // scheme.bits if scheme.bits in (2, 4, 8) else 32):
            why = f"{features[0]} output features do not fill the words that hold their zero points"
            yield Hit(module.name, why, "leave the layer in floats")


def other_names(checkpoint: Checkpoint) -> Iterator[Hit]:
    """Scales whose layer has no codes: renamed, or left behind when the layer was merged."""
    view = view_of(checkpoint)
    for module in view.modules.values():
        scales = [local for local in module.parts if local in SCALES - _CACHE]
        if scales and not any(part in module.parts for part in ("weight", "weight_packed", "qweight", "blocks")):
            why = "the layer has scales but no weight under this name"
            yield Hit(f"{module.name}.{scales[0]}", why, "write weight and scales under one name")


def _called(module: Module) -> str:
    scheme = module.scheme
    assert scheme is not None
    return scheme.kind if scheme.kind != "pack" else f"pack-quantized, {scheme.bits} bit"


_ALL: Mapping[str, Severity] = {EVERYONE: "error"}
RULES = (
    RuleSpec("tensor-missing", "a layer has every tensor of its format", _ALL, missing),
    RuleSpec("tensor-extra", "a layer has no tensor that its format lacks", {EVERYONE: "warning"}, extra),
    RuleSpec("pre-quant-scale", "pre_quant_scale comes with an algorithm that applies it", _ALL, pre_scale),
    RuleSpec("dtype", "codes and scales have the dtype of the format", _ALL, dtype),
    RuleSpec("shape", "scales have the shape that goes with the codes", _ALL, shape),
    RuleSpec("weight-shape", "weight_shape is the shape of the codes", _ALL, weight_shape),
    RuleSpec("block-size", "input features are a multiple of the block", _ALL, divisible),
    RuleSpec("kernel-size", "features are multiples of what matrix kernels want", {"vllm": "note"}, kernel_sizes),
    RuleSpec("word-size", "output features fill the packed words", _ALL, packed_out),
    RuleSpec("weight-lost", "scales and weight stand under one name", _ALL, other_names),
)
