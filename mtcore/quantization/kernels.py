"""Kernels of a quantized model: chosen once for its plan, given to its quantizers, and logged with the reasons."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import nn

from mtcore.backends import FAKE_QUANTIZE, KernelChoice, KernelSpec, Use, choose_kernel
from mtcore.nn import TensorQuantizer

_log = logging.getLogger("mtcore")


def assign_kernels(
    model: nn.Module, kernels: Mapping[str, KernelSpec], device: torch.device | None = None
) -> tuple[KernelChoice, ...]:
    """Give every quantizer of a converted model the kernel for its format on the device; the model's where None.

    A quantizer for which the torch reference was chosen computes by `mtcore.numerics`, as it does without a kernel.

    Returns:
        One choice a format.

    Raises:
        PlanError: no kernel serves a format; with the built-in ones there always is one.
    """
    device = device_of(model) if device is None else device
    choices: dict[Use, KernelChoice] = {}
    for quantizer in (module for module in model.modules() if isinstance(module, TensorQuantizer)):
        use = Use(FAKE_QUANTIZE.name, quantizer.format, device)
        if use not in choices:
            choices[use] = choose_kernel(use, kernels.values())
            _log.info("%s", choices[use])
        quantizer.kernel = None if choices[use].is_reference else choices[use]
    return tuple(choices.values())


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter or buffer; the CPU where it has none."""
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device if tensors else torch.device("cpu")
