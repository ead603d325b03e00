"""Families of image models of timm, each by its smallest variant, with random parameters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from randomise import randomise
from torch import nn

NAMES = [
    "resnet10t", "resnext26ts", "seresnet18", "resnetv2_18", "res2net50_14w_8s", "resnest14d", "regnetx_002",
    "regnety_002", "efficientnet_b0", "tf_efficientnetv2_b0", "mnasnet_small", "mobilenetv2_035",
    "mobilenetv3_small_050", "mobilenetv4_conv_small_035", "lcnet_050", "ghostnet_050", "ghostnetv2_100",
    "mobileone_s0", "repvgg_a0", "repghostnet_050", "tinynet_e", "hardcorenas_a", "convnext_atto",
    "convnextv2_atto", "densenet121", "vgg11_bn", "hrnet_w18_small", "dla46_c", "cspresnet50", "darknet17",
    "nf_resnet26", "inception_v3", "xception41", "inception_next_atto", "vovnet39a", "fastvit_t8",
    "edgenext_xx_small", "mobilevit_xxs", "mobilevitv2_050", "swin_tiny_patch4_window7_224",
    "vit_tiny_patch16_224", "deit_tiny_patch16_224", "mixer_s32_224", "gmlp_ti16_224", "resmlp_12_224",
    "poolformer_s12", "pvt_v2_b0", "levit_128s", "coat_lite_tiny",
]  # fmt: skip
IMAGE = 64
OPTIONS = {"vgg11_bn": {"num_features": 64}}


@dataclass(frozen=True)
class TimmModel:
    """An image classifier of timm with ten classes."""

    name: str
    kind: str = "timm"

    def build(self) -> nn.Module:
        import timm

        torch.manual_seed(0)
        options = {"num_classes": 10, **OPTIONS.get(self.name, {})}
        try:
            model = timm.create_model(self.name, img_size=IMAGE, **options)
        except TypeError:  # a convolutional network takes any size
            model = timm.create_model(self.name, **options)
        return randomise(model).eval()

    def inputs(self, model: nn.Module) -> dict[str, Any]:
        """One batch of two images, of a size that the network takes."""
        size = IMAGE if "inception" not in self.name else 96
        return {"x": torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(2))}


def timm_models() -> Iterator[TimmModel]:
    yield from map(TimmModel, NAMES)
