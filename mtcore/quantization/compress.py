"""compress: give up the float weights of a quantized model and compute with the stored ones."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import torch
from torch import nn

from mtcore.backends import LINEAR, KernelChoice, KernelSpec, Use, choose_kernel
from mtcore.nn import LowRankLinear, PackedLinear, PackedSiblings, QuantLinear, TensorQuantizer, joinable
from mtcore.plan.groups import lists_of, siblings
from mtcore.plugins import Registry, default_registry
from mtcore.quantization.attached import detach, quantized_of
from mtcore.trace import SharedInputGroup

_log = logging.getLogger("mtcore")


@torch.no_grad()
def compress(model: nn.Module, *, registry: Registry | None = None, together: bool = True) -> nn.Module:
    """Replace every quantized linear layer by one that holds codes and scales only, for inference.

    The kernel of each layer is chosen once and logged with the reasons against others; where none multiplies the
    formats of both factors, the input is quantized on its own. A layer whose weight is not quantized, or in a way
    that codes and scales alone do not express (with a zero point, shifted, or rotated back), stays as it is, with a
    line in the log. Afterwards the model can no longer be calibrated, undone or exported: do that first.

    Args:
        model: made by `quantize`; changed in place.
        registry: its kernels are chosen from; the discovered ones where None.
        together: whether layers that the trace saw reading one value (q, k and v; gate and up) are computed by one
            call where their kernel can, see `PackedSiblings`. Codes, scales and `state_dict` stay each layer's own;
            sums may be made in another order.

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
    shared = quantized_of(model).plan.shared_inputs if together else ()
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
    groups = _join(model, shared)
    if groups:
        count = sum(len(group.layers) for group in groups)
        _log.info("%d layers are computed in %d groups that read one value", count, len(groups))
    return packed.get(id(model), model)


def _join(model: nn.Module, shared: Iterable[SharedInputGroup]) -> list[PackedSiblings]:
    """Let layers inside one module be computed together where one kernel can; each layer joins once."""
    lists = lists_of(model)
    layers = {name: module for name, module in model.named_modules() if isinstance(module, PackedLinear)}
    groups = []
    for reader in shared:
        for names in siblings([name for name in reader.modules if name in layers], lists):
            left = [layers[name] for name in names if layers[name].siblings is None]
            while left:
                alike = [layer for layer in left if joinable(left[0], layer)]
                if len(alike) > 1:
                    groups.append(PackedSiblings(alike, model.get_submodule(_around(names))))
                left = [layer for layer in left[1:] if layer not in alike]
    return groups


def _around(names: Sequence[str]) -> str:
    """The name of the module nearest around modules.

    Example:
        >>> _around(["h.0.q", "h.0.inner.k"])
        'h.0'
    """
    common: list[str] = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


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
