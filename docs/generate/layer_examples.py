"""One small example of every layer class that the format table tries, and a model that holds them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn


class Example:
    """A layer and the arguments of its forward; made anew, with the same numbers, on every call of `make`."""

    def __init__(self, layer: Callable[[], nn.Module], *arguments: Callable[[], Tensor]) -> None:
        self.layer, self.arguments = layer, arguments

    def make(self) -> tuple[nn.Module, list[Tensor]]:
        torch.manual_seed(0)
        return self.layer(), [argument() for argument in self.arguments]


def random(*shape: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(*shape)


def _examples() -> Mapping[str, Example]:
    found = {
        "nn.Linear": Example(lambda: nn.Linear(128, 8), random(4, 128)),
        "nn.Bilinear": Example(lambda: nn.Bilinear(8, 16, 4), random(2, 8), random(2, 16)),
        "nn.MultiheadAttention": Example(
            lambda: nn.MultiheadAttention(128, 2), random(5, 2, 128), random(3, 2, 128), random(3, 2, 128)
        ),
        "nn.Embedding": Example(lambda: nn.Embedding(16, 128), lambda: torch.arange(6).view(2, 3)),
        "nn.EmbeddingBag": Example(lambda: nn.EmbeddingBag(16, 128), lambda: torch.arange(6).view(2, 3)),
        "nn.GroupNorm": Example(lambda: nn.GroupNorm(4, 32), random(2, 32, 8)),
        "nn.LayerNorm": Example(lambda: nn.LayerNorm(32), random(4, 32)),
        "nn.RMSNorm": Example(lambda: nn.RMSNorm(32), random(4, 32)),
    }
    for kind in ("RNN", "GRU", "LSTM"):
        found[f"nn.{kind}"] = Example(lambda kind=kind: getattr(nn, kind)(128, 128), random(3, 2, 128))
        found[f"nn.{kind}Cell"] = Example(lambda kind=kind: getattr(nn, f"{kind}Cell")(128, 128), random(2, 128))
    for axes in (1, 2, 3):
        image = random(2, 32, *(4,) * axes)
        kernel = 4 if axes == 1 else 2  # so that a row of the weight's matrix is a multiple of 128
        arguments = {
            "Conv": (32, 8, kernel),
            "ConvTranspose": (32, 8, kernel),
            "BatchNorm": (32,),
            "InstanceNorm": (32,),
        }
        arguments |= {"MaxPool": (2,), "AvgPool": (2,), "AdaptiveMaxPool": (2,), "AdaptiveAvgPool": (2,)}
        for kind, given in arguments.items():
            layer = getattr(nn, f"{kind}{axes}d")
            found[f"nn.{kind}{axes}d"] = Example(lambda layer=layer, given=given: layer(*given).eval(), image)
    for kind in ("LeakyReLU", "ReLU", "GELU", "SiLU", "Hardswish", "Sigmoid", "Tanh"):
        found[f"nn.{kind}"] = Example(lambda kind=kind: getattr(nn, kind)(), random(4, 32))
    return found


EXAMPLES = _examples()


class AllLayers(nn.Module):
    """Holds examples side by side; `forward(x)` runs each on its own arguments, times x."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__()
        self.names = list(names)
        made = [EXAMPLES[name].make() for name in self.names]
        self.layers = nn.ModuleList([layer for layer, _ in made])
        self.arguments = [arguments for _, arguments in made]

    def forward(self, x: Tensor) -> dict[str, list[Tensor]]:
        pairs = zip(self.names, self.layers, self.arguments, strict=True)
        return {
            name: tensors(layer(*(a if a.dtype == torch.int64 else a * x for a in given)))
            for name, layer, given in pairs
        }


def tensors(result: object) -> list[Tensor]:
    """The tensors of a layer's result, nested tuples flattened."""
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result for tensor in tensors(part)] if isinstance(result, tuple) else []
