"""Random parameters with which a wrong fold shows."""

from __future__ import annotations

import torch
from torch import nn


def randomise(model: nn.Module) -> nn.Module:
    """Large and different enough that a wrong fold shows: vectors get noise, matrices std 0.12, kernels more."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if not parameter.is_floating_point():
                continue
            if sum(n > 1 for n in parameter.shape) < 2:
                parameter.add_(0.3 * noise)
            else:
                std = float(parameter.std()) if parameter.isfinite().all() else 0.0
                # kernels keep the variance, or a deep stack of them goes silent
                kernel = (2 / parameter[0].numel()) ** 0.5 if parameter.dim() > 3 else 0.0
                parameter.copy_(noise * max(0.12, kernel, min(std, 1.0)))
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return model
