"""The journal of a quantization: what was replaced where and which parameters changed, so that it can be undone."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import nn

from mtcore.calibration import ParameterEdits


@dataclass(frozen=True)
class Replacement:
    """`parent.attribute` held `original` and now holds `replacement`."""

    parent: nn.Module
    attribute: str
    original: nn.Module
    replacement: nn.Module


@dataclass(frozen=True)
class Setting:
    """`module.attribute` had another value."""

    module: nn.Module
    attribute: str
    value: object


@dataclass(frozen=True)
class Switch:
    """`module` was of another class, and had neither these attributes nor these children."""

    module: nn.Module
    kind: type[nn.Module]
    attributes: tuple[str, ...]
    children: tuple[str, ...]


@dataclass
class Journal:
    """Changes in the order in which they were made, and parameters that calibration gave other values."""

    entries: list[Replacement | Setting | Switch] = field(default_factory=list)
    parameters: ParameterEdits = field(default_factory=ParameterEdits)

    def replace(self, parent: nn.Module, attribute: str, replacement: nn.Module) -> None:
        """Put `replacement` where `parent.attribute` is, and write it down."""
        original = parent._modules[attribute]
        assert original is not None, f"nothing to replace at {attribute!r}"
        parent._modules[attribute] = replacement
        self.entries.append(Replacement(parent, attribute, original, replacement))

    def set_attribute(self, module: nn.Module, attribute: str, value: object) -> None:
        """Set a plain attribute that `module` has, and write its old value down."""
        self.entries.append(Setting(module, attribute, getattr(module, attribute)))
        setattr(module, attribute, value)

    def switch(self, module: nn.Module, twin: nn.Module) -> None:
        """Make `module` what its twin is, without replacing it, and write it down."""
        attributes = {name: value for name, value in vars(twin).items() if name not in vars(module)}
        children = {name: child for name, child in twin._modules.items() if name not in module._modules}
        self.entries.append(Switch(module, type(module), tuple(attributes), tuple(children)))
        vars(module).update(attributes)
        module._modules.update(children)
        module.__class__ = type(twin)

    def undo(self) -> None:
        """Put every original back, last first; the very same objects stand where they stood. Idempotent."""
        self.parameters.undo()
        while self.entries:
            entry = self.entries.pop()
            if isinstance(entry, Setting):
                setattr(entry.module, entry.attribute, entry.value)
            elif isinstance(entry, Switch):
                entry.module.__class__ = entry.kind
                for name in entry.attributes:
                    del vars(entry.module)[name]
                for name in entry.children:
                    del entry.module._modules[name]
            else:
                entry.parent._modules[entry.attribute] = entry.original
