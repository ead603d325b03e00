"""Imports torchvision also where its compiled operators do not fit torch: its CUDA build beside a CPU torch."""

from __future__ import annotations

import importlib.util

import torch


def import_torchvision() -> None:
    """timm and DETR need the package, not the operators; their schemas let the import succeed.

    Does nothing where torchvision is not installed: then the models that need it say so.
    """
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        import torchvision  # noqa: F401
