"""A checkpoint module by module: the tensors of each, what the configuration says of it, and what it really is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mtcore.lint import Checkpoint, TensorInfo
from mtopt_hf.lint.config import Declared, Scheme, declared
from mtopt_hf.lint.layouts import Layout, layout_of
from mtopt_hf.lint.names import (
    PARTS,
    QUANTIZED_BY,
    is_embedding,
    is_head,
    is_norm,
    is_router,
    joined_in,
    stacked_part,
)

_CODES = ("U8", "I8", "I32", "F8_E4M3", "F8_E5M2", "F4")


@dataclass(frozen=True)
class Module:
    """The tensors that lie under one name.

    Attributes:
        name: dotted.
        parts: by local name.
        scheme: what the configuration says of a linear layer of this name, whatever is ignored.
        layout: of that scheme.
    """

    name: str
    parts: Mapping[str, TensorInfo]
    scheme: Scheme | None
    layout: Layout | None

    @property
    def stored_quantized(self) -> bool:
        weight = self.parts.get("weight")
        return not QUANTIZED_BY.isdisjoint(self.parts) or (weight is not None and weight.dtype in _CODES)

    @property
    def features(self) -> tuple[int, int] | None:
        """(o, i), as far as the layout and the shape of the codes tell."""
        if self.layout is None or self.layout.main not in self.parts:
            return None
        return self.layout.features(self.parts[self.layout.main].shape)

    @property
    def plain_linear(self) -> bool:
        """A float matrix that clients hold as a linear layer, as far as names tell."""
        weight = self.parts.get("weight")
        if weight is None or self.stored_quantized or len(weight.shape) != 2:
            return False
        return not (is_embedding(self.name) or is_router(self.name) or is_norm(self.name))


@dataclass(frozen=True)
class View:
    """All modules of a checkpoint.

    Attributes:
        says: what config.json (or else hf_quant_config.json) says.
        modules: by name.
        quantized: those that are stored quantized.
        fused: modules beside each other that a server joins, each in the order of `FUSED`; parts may be missing.
    """

    says: Declared
    modules: Mapping[str, Module]
    quantized: tuple[Module, ...]
    fused: tuple[tuple[Module, ...], ...] = field(default=())


def view_of(checkpoint: Checkpoint) -> View:
    """The modules of a checkpoint; worked out once."""
    return checkpoint.derive(_view)


def _view(checkpoint: Checkpoint) -> View:
    says = declared(checkpoint)
    parts: dict[str, dict[str, TensorInfo]] = {}
    for name, tensor in checkpoint.tensors.items():
        module, _, local = name.rpartition(".")
        if says.method == "mxfp4" and (found := stacked_part(name)) is not None:
            module, local = found
        if local in PARTS:
            parts.setdefault(module, {})[local] = tensor
    layouts: dict[int, Layout | None] = {}
    modules = {}
    for name, own in parts.items():
        scheme = says.scheme_of(name)
        if scheme is not None and id(scheme) not in layouts:
            layouts[id(scheme)] = layout_of(says.method, scheme)
        modules[name] = Module(name, own, scheme, None if scheme is None else layouts[id(scheme)])
    quantized = tuple(module for module in modules.values() if module.stored_quantized)
    return View(says, modules, quantized, tuple(_fused(modules)))


def _fused(modules: Mapping[str, Module]) -> Iterator[tuple[Module, ...]]:
    for name in modules:
        parent, dot, local = name.rpartition(".")
        for names in joined_in(parent):
            if local == names[0]:
                members = tuple(modules[key] for part in names if (key := f"{parent}{dot}{part}") in modules)
                if len(members) > 1:
                    yield members


def is_linear(module: Module) -> bool:
    """Whether clients take the module for a linear layer that a configuration can speak of."""
    return module.stored_quantized or module.plain_linear or is_head(module.name)
