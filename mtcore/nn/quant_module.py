"""QuantModule: a layer that quantizes its weights and activations, and shares the parameters of the original."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from mtcore.nn.channel_scale import ChannelScale
from mtcore.nn.stacked_quantizer import StackedQuantizer
from mtcore.nn.tensor_quantizer import TensorQuantizer
from mtcore.nn.wrapped import wrap_alike
from mtcore.recipe.setting import quantizer_names


def quantizer_name(slot: str, *, is_weight: bool) -> str:
    """Attribute under which a module keeps the quantizer of a slot, the name by which rules find it.

    Example:
        >>> quantizer_name("input", is_weight=False), quantizer_name("weight_ih_l0", is_weight=True)
        ('input_quantizer', 'weight_ih_l0_weight_quantizer')
    """
    return quantizer_names("", slot, is_weight=is_weight)[0]


def is_idle(quantizer: nn.Module) -> bool:
    """Whether what sits in a slot returns what it is given, and nobody watches."""
    if isinstance(quantizer, (TensorQuantizer, StackedQuantizer, ChannelScale)):
        return quantizer.idle
    return isinstance(quantizer, nn.Identity)


class QuantModule(nn.Module):
    """Base of every quantized layer: declare a subclass of this and of the original class, override `forward`.

    An instance is made by `QuantModule.from_original`, never by its constructor. It holds the original's own
    parameters, buffers, hooks and attributes (the same objects), plus one quantizer a slot, named
    `<slot>_quantizer` (see `quantizer_name`); a slot that the plan leaves alone holds `nn.Identity`.
    """

    slots: dict[str, str]
    """Slot → attribute of its quantizer."""

    @classmethod
    def from_original(cls, original: nn.Module, quantizers: Mapping[str, nn.Module]) -> QuantModule:
        """A quantized twin of `original` that shares everything it holds; the original stays usable.

        Args:
            original: the layer.
            quantizers: by slot; every slot that `forward` uses must be there.
        """
        twin = cls.__new__(cls)
        twin.__dict__.update(original.__dict__)
        for registry in ("_parameters", "_buffers", "_modules"):
            twin.__dict__[registry] = dict(original.__dict__[registry])
        twin.__dict__["slots"] = {}
        for slot, quantizer in quantizers.items():
            attribute = quantizer_name(slot, is_weight=slot in original._parameters)
            twin.slots[slot] = attribute
            twin.add_module(attribute, quantizer)
        wrap_alike(twin, original)
        return twin

    def quantizers(self) -> Iterator[tuple[str, TensorQuantizer]]:
        """Slot and quantizer of every slot that the plan decided to quantize.

        A stacked weight has one slot an expert, `<parameter>.<expert>`.
        """
        for slot, attribute in self.slots.items():
            quantizer = self._modules[attribute]
            if isinstance(quantizer, TensorQuantizer):
                yield slot, quantizer
            elif isinstance(quantizer, StackedQuantizer):
                yield from ((f"{slot}.{i}", one) for i, one in enumerate(quantizer.quantizers()))

    def weight_of(self, slot: str) -> Tensor:
        """The tensor of a weight slot: a parameter, or the matrix of one expert as a view of a stacked one.

        Raises:
            KeyError: no weight has this slot.
        """
        name, _, expert = slot.partition(".")
        parameter = self._parameters[name]
        if parameter is None:
            raise KeyError(slot)
        return parameter[int(expert)] if expert else parameter

    @property
    def idle(self) -> bool:
        """Whether every slot is idle, so that the layer computes what the original does."""
        return all(is_idle(self.get_submodule(attribute)) for attribute in self.slots.values())

    @torch.no_grad()
    def fold_weights(self) -> None:
        """Overwrite each quantized weight by its fake-quantized values and switch its quantizer off.

        Outputs stay the same bit for bit; a forward no longer quantizes weights. The original values are lost.
        """
        for slot, quantizer in self.quantizers():
            if quantizer.is_weight and quantizer.enabled:
                weight = self.weight_of(slot)
                weight.copy_(quantizer(weight))
                quantizer.disable()
