"""Products: the second moments of what weights are multiplied with, in the original and in the quantized model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtcore.calibration.quantizers import WeightKey, factor_site, matrix_layers, planned_quantizers, stack_of
from mtcore.calibration.ranks import Ranks
from mtcore.calibration.spec import CalibrationRun
from mtcore.calibration.statistics import Needs, Site
from mtcore.errors import CalibrationError
from mtcore.nn import ExpertsQuantModule, QuantModule


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


def wanted_products(run: CalibrationRun) -> dict[Site, Needs]:
    """Σ x xᵀ of what every quantized matrix is multiplied with, of linear layers and of stacked experts."""
    layers = matrix_layers(run.model, dict(planned_quantizers(run)))
    return dict.fromkeys(map(factor_site, layers), Needs(gram=True))


def products_across(
    products: Mapping[WeightKey, InputProducts], keys: Iterable[WeightKey], device: torch.device, ranks: Ranks
) -> dict[WeightKey, InputProducts]:
    """The sums over the tokens of all ranks, of every weight of `keys` that the data of any of them reached."""
    sizes: dict[WeightKey, int] = {}
    for told in ranks.every({key: len(found.hessian) for key, found in products.items()}):
        sizes |= told
    result = {}
    for key in keys:
        if key in sizes:
            own = products.get(key) or InputProducts.empty(sizes[key], device)
            tokens = sum(ranks.every(own.tokens))
            result[key] = InputProducts(ranks.total(own.hessian), ranks.total(own.drift), tokens)
    return result


def factors_of(module: QuantModule) -> nn.Module:
    """The submodule whose output is what the layer multiplies its weight with."""
    return module.get_submodule(module.slots["input"])


class AllSeen(Exception):  # noqa: N818  it ends a forward early; nothing is wrong
    """Every factor that was asked for has come."""


@contextmanager
def seen_inputs(
    layers: Mapping[WeightKey, QuantModule], *, stop: bool = False
) -> Iterator[dict[WeightKey, Tensor]]:
    """While the model runs, the latest factor [tokens, cols] of every linear layer, fp32; of an expert all of them
    since the dict was emptied.

    Args:
        layers: the modules that hold the weights.
        stop: end the forward, with `AllSeen`, as soon as every one has come.
    """
    seen: dict[WeightKey, Tensor] = {}

    def take(key: WeightKey, x: Tensor) -> None:
        if key in layers and len(x):
            x = x.detach().float()
            seen[key] = torch.cat([seen[key], x]) if key in seen else x

    def hook(key: WeightKey) -> Callable[[nn.Module, object, Tensor], None]:
        def keep(_: nn.Module, __: object, output: Tensor) -> None:
            seen[key] = output.detach().reshape(-1, output.shape[-1]).float()
            if stop and len(seen) == len(layers):
                raise AllSeen

        return keep

    linear = {key: module for key, module in layers.items() if not isinstance(module, ExpertsQuantModule)}
    handles = [factors_of(module).register_forward_hook(hook(key)) for key, module in linear.items()]
    try:
        with _observed(layers, take):
            yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _observed(layers: Mapping[WeightKey, QuantModule], take: Callable[[WeightKey, Tensor], None]) -> Iterator[None]:
    """The stacks among the layers show what each of their experts multiplies, meanwhile."""
    stacks = {name: module for (name, _), module in layers.items() if isinstance(module, ExpertsQuantModule)}

    def observer(name: str) -> Callable[[str, int, Tensor], None]:
        return lambda parameter, expert, x: take((name, f"{parameter}.{expert}"), x)

    try:
        for name, stack in stacks.items():
            stack.observer = observer(name)
        yield
    finally:
        for stack in stacks.values():
            stack.observer = None


def shared_inputs(
    layers: Mapping[WeightKey, QuantModule], forward: Callable[[], object], calls: Counter[WeightKey] | None = None
) -> list[tuple[WeightKey, ...]]:
    """Weights of layers that read one tensor, in the order of their calls; those that are not called are left out.

    Of a stack every expert stands alone, all of them where the first one is called.

    Args:
        layers: the modules that hold the weights.
        calls: told how often each linear layer was called.
    """
    readers: list[tuple[Tensor | None, list[WeightKey]]] = []
    stacks: dict[tuple[str, str], list[WeightKey]] = {}
    for key, module in layers.items():
        if isinstance(module, ExpertsQuantModule):
            stacks.setdefault(stack_of(key), []).append(key)
    calls = Counter() if calls is None else calls

    def hook(key: WeightKey) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            calls[key] += 1
            for tensor, keys in readers:
                if tensor is args[0] and key not in keys:
                    keys.append(key)
                    return
            if all(key not in keys for _, keys in readers):
                readers.append((args[0], [key]))

        return note

    def take(key: WeightKey, _: Tensor) -> None:
        readers.extend((None, [one]) for one in stacks.pop(stack_of(key), ()))

    linear = {key: module for key, module in layers.items() if not isinstance(module, ExpertsQuantModule)}
    handles = [module.register_forward_pre_hook(hook(key)) for key, module in linear.items()]
    try:
        with _observed(layers, take):
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return [tuple(keys) for _, keys in readers]
