"""Products: the second moments of a linear layer's inputs, in the original and in the quantized model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtcore.calibration.ranks import Ranks
from mtcore.errors import CalibrationError
from mtcore.nn import QuantModule


@dataclass
class InputProducts:
    """Sums over tokens, fp32 [cols, cols]: `hessian` Σ x̃ x̃ᵀ and `drift` Σ (x - x̃) x̃ᵀ; and how many tokens.

    x̃ is what the layer multiplies in the quantized model, x in the original one. `matched`: whether every batch had
    as many tokens in the one as in the other.
    """

    hessian: Tensor
    drift: Tensor
    tokens: int
    matched: bool = True

    @classmethod
    def empty(cls, cols: int, device: torch.device) -> InputProducts:
        return cls(torch.zeros(cols, cols, device=device), torch.zeros(cols, cols, device=device), 0)

    def add(self, changed: Tensor, original: Tensor | None) -> None:
        """Take in matching tokens [n, cols]; `original` None means that nothing drifted.

        Tokens that a router sends to an expert in one model and not in the other match nothing: once their numbers
        differ in a batch, it is taken as if nothing drifted in any.
        """
        self.hessian.addmm_(changed.T, changed)
        if original is not None and original.shape != changed.shape:
            self.matched = False
            self.drift.zero_()
        if original is not None and self.matched:
            self.drift.addmm_((original - changed).T, changed)
        self.tokens += len(changed)

    def check(self, name: str) -> None:
        """Raises:
        CalibrationError: the sums are not finite, or no token came.
        """
        if not self.tokens:
            raise CalibrationError(f"{name}: the calibration data never reached it")
        if not bool(self.hessian.isfinite().all()):
            raise CalibrationError(
                f"{name}: its inputs hold NaN or infinite values; check the data and the model's dtype"
            )


def products_across(
    products: Mapping[str, InputProducts], names: Iterable[str], device: torch.device, ranks: Ranks
) -> dict[str, InputProducts]:
    """The sums over the tokens of all ranks, of every named layer that the data of any of them reached."""
    sizes: dict[str, int] = {}
    for told in ranks.every({name: len(found.hessian) for name, found in products.items()}):
        sizes |= told
    result = {}
    for name in names:
        if name in sizes:
            own = products.get(name) or InputProducts.empty(sizes[name], device)
            tokens = sum(ranks.every(own.tokens))
            result[name] = InputProducts(ranks.total(own.hessian), ranks.total(own.drift), tokens)
    return result


def factors_of(module: QuantModule) -> nn.Module:
    """The submodule whose output is what the layer multiplies its weight with."""
    return module.get_submodule(module.slots["input"])


class AllSeen(Exception):  # noqa: N818  it ends a forward early; nothing is wrong
    """Every factor that was asked for has come."""


@contextmanager
def seen_inputs(layers: Mapping[str, QuantModule], *, stop: bool = False) -> Iterator[dict[str, Tensor]]:
    """While the model runs, the latest factor [tokens, cols] of every named layer, fp32.

    Args:
        stop: end the forward, with `AllSeen`, as soon as every one has come.
    """
    seen: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_: nn.Module, __: object, output: Tensor) -> None:
            seen[name] = output.detach().reshape(-1, output.shape[-1]).float()
            if stop and len(seen) == len(layers):
                raise AllSeen

        return keep

    handles = [factors_of(module).register_forward_hook(hook(name)) for name, module in layers.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def shared_inputs(
    layers: Mapping[str, QuantModule], forward: Callable[[], object], calls: Counter[str] | None = None
) -> list[tuple[str, ...]]:
    """Names of layers that read one tensor, in the order of their calls; those that are not called are left out.

    Args:
        calls: told how often each was called.
    """
    groups: list[tuple[str, ...]] = []
    readers: list[tuple[Tensor, list[str]]] = []
    calls = Counter() if calls is None else calls

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[name] += 1
            for tensor, names in readers:
                if tensor is args[0] and name not in names:
                    names.append(name)
                    return
            if all(name not in names for _, names in readers):
                readers.append((args[0], [name]))

        return note

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in layers.items()]
    try:
        forward()
    finally:
        for handle in handles:
            handle.remove()
    groups.extend(tuple(names) for _, names in readers)
    return groups
