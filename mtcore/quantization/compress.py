"""compress: give up the float weights of a quantized model and compute with the stored ones."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import nn

from mtcore.backends import LINEAR, KernelChoice, KernelSpec, Use, choose_kernel
from mtcore.nn import LowRankLinear, PackedLinear, QuantLinear, TensorQuantizer
from mtcore.plugins import Registry, default_registry
from mtcore.quantization.attached import detach, quantized_of

_log = logging.getLogger("mtcore")


@torch.no_grad()
def compress(model: nn.Module, *, registry: Registry | None = None) -> nn.Module:
    """Replace every quantized linear layer by one that holds codes and scales only, for inference.

    The kernel of each layer is chosen once and logged with the reasons against others; where none multiplies the
    formats of both factors, the input is quantized on its own. A layer whose weight is not quantized, or in a way
    that codes and scales alone do not express (with a zero point, shifted, or rotated back), stays as it is, with a
    line in the log. Afterwards the model can no longer be calibrated, undone or exported: do that first.

    Args:
        model: made by `quantize`; changed in place.
        registry: its kernels are chosen from; the discovered ones where None.

    Returns:
        The model; a root that is itself a linear layer is replaced.

    Raises:
        StateError: the model was not quantized.

    Example:
        >>> import mtcore
        >>> model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))
        >>> config = {"quant_cfg": {"*weight_quantizer": {"num_bits": 8, "axis": 0}}, "algorithm": "max"}
        >>> x = torch.randn(4, 64)
        >>> expected = mtcore.quantize(model, config)(x)
        >>> torch.equal(compress(model)(x), expected)
        True
        >>> type(model[0]).__name__, model[0].qdata.dtype
        ('PackedLinear', torch.int8)
    """
    quantized_of(model)
    kernels = (registry or default_registry()).kernels
    packed: dict[int, PackedLinear] = {}
    lines: set[str] = set()
    for name, module in model.named_modules():
        if type(module) not in (QuantLinear, LowRankLinear):
            continue
        assert isinstance(module, QuantLinear)
        quantizer = module.weight_quantizer
        reason = _inexpressible(quantizer) if isinstance(quantizer, TensorQuantizer) else "not quantized"
        if isinstance(module, LowRankLinear):
            reason = "stored with a low-rank branch beside it"
        if reason is not None:
            _log.warning("%s stays as it is: its weight is %s", name or "the model", reason)
            continue
        assert isinstance(quantizer, TensorQuantizer)
        choice = _chosen(module, quantizer, kernels.values())
        lines.add(str(choice))
        packed[id(module)] = PackedLinear(module, quantizer.quantize(module.weight), choice)
    for line in sorted(lines):
        _log.info("%s", line)
    detach(model)
    for parent in model.modules():
        for attribute, child in parent._modules.items():
            if child is not None and id(child) in packed:
                parent._modules[attribute] = packed[id(child)]
    return packed.get(id(model), model)


def packed_kernels(model: nn.Module) -> tuple[KernelChoice, ...]:
    """The kernels of a compressed model's layers, each use once."""
    choices = {module.kernel.use: module.kernel for module in model.modules() if isinstance(module, PackedLinear)}
    return tuple(choices.values())


def _inexpressible(quantizer: TensorQuantizer) -> str | None:
    """Why codes and scales are not all of a rounded weight; None if they are."""
    if not quantizer.enabled:
        return "not quantized"
    if not quantizer.format.symmetric:
        return "stored with zero points"
    if quantizer.bias is not None or (quantizer.rotation is not None and quantizer.rotation.back):
        return "shifted or rotated back after rounding"
    return None


def _chosen(module: QuantLinear, weight: TensorQuantizer, kernels: Collection[KernelSpec]) -> KernelChoice:
    """A kernel that quantizes the input too, where its quantizer does nothing but round; else one that does not,
    with the reasons why there was none of the former."""
    given = module.input_quantizer
    shape = (module.out_features, module.in_features)
    apart = Use(LINEAR.name, weight.format, module.weight.device, None, shape)
    if isinstance(given, TensorQuantizer) and given.only_rounds and given.format.symmetric:
        fused = choose_kernel(replace(apart, input_format=given.format), kernels)
        if not fused.is_reference:
            return fused
        choice = choose_kernel(apart, kernels)
        reasons = dict(choice.refused) | {name: why for name, why in fused.refused if name != choice.kernel.name}
        return replace(choice, refused=tuple(reasons.items()))
    return choose_kernel(apart, kernels)
