"""Kernels of a quantized model: chosen once for its plan, given to its quantizers, and logged with the reasons."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import chain

import torch
from torch import nn

from mtcore.backends import FAKE_QUANTIZE, HADAMARD, KernelChoice, KernelSpec, Use, choose_kernel
from mtcore.nn import TensorQuantizer
from mtcore.nn.walk import modules_of

_log = logging.getLogger("mtcore")


def assign_kernels(
    model: nn.Module, kernels: Mapping[str, KernelSpec], device: torch.device | None = None
) -> tuple[KernelChoice, ...]:
    """Give every quantizer of a converted model the kernel for its format on the device; the model's where None.

    A quantizer for which the torch reference was chosen computes by `mtcore.numerics`, as it does without a kernel.

    Those that rotate get the kernel for that, too.

    Returns:
        One choice a format, and one for rotations where there are any.

    Raises:
        PlanError: no kernel serves a format; with the built-in ones there always is one.
    """
    device = device_of(model) if device is None else device
    quantizers = [module for module in modules_of(model) if isinstance(module, TensorQuantizer)]
    choices: dict[Use, KernelChoice] = {}
    of_format: dict[int, KernelChoice] = {}  # by identity: comparing formats by value takes longer than all else
    for quantizer in quantizers:
        if id(quantizer.format) not in of_format:
            use = Use(FAKE_QUANTIZE.name, quantizer.format, device)
            if use not in choices:
                choices[use] = choose_kernel(use, kernels.values())
                _log.info("%s", choices[use])
            of_format[id(quantizer.format)] = choices[use]
        choice = of_format[id(quantizer.format)]
        quantizer.kernel = None if choice.is_reference else choice
    rotating = [quantizer for quantizer in quantizers if quantizer.rotation is not None]
    if rotating:
        use = Use(HADAMARD.name, None, device)
        choices[use] = choose_kernel(use, kernels.values())
        _log.info("%s", choices[use])
    for quantizer in rotating:
        quantizer.rotating = None if choices[use].is_reference else choices[use]
    return tuple(choices.values())


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter or buffer; the CPU where it has none."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device
