"""What one recipe contributes, and what its grammar may look up while it is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mtcore.errors import look_up
from mtcore.formats import TensorFormat
from mtcore.recipe.document import Document, KeyPath, Problems
from mtcore.recipe.setting import AlgorithmStep, ExpertsSetting, SlotRule


@dataclass(frozen=True)
class Guard:
    """The share of weights that may stay unquantized without a rule that says so, and who said it."""

    share: float
    origin: str


@dataclass(frozen=True)
class Targets:
    """Dialects or clients for which the checkpoints are, each once, and who said it."""

    names: tuple[str, ...]
    origin: str


def read_targets(names: list[str] | None, doc: Document) -> Targets | None:
    """What a document says under `targets`, or None where it says nothing."""
    if names is None:
        return None
    return Targets(tuple(dict.fromkeys(names)), doc.origin("targets", ("targets",)))


@dataclass(frozen=True)
class Parts:
    """What one recipe says, its includes merged in. None: it does not speak of this.

    Attributes:
        rules: in order.
        algorithm: steps in order.
        guard: the coverage guard.
        experts: what is done about starved experts.
        targets: for whom the checkpoints are.
        formats: that the recipe defines itself, by name.
        notes: what was accepted but has no effect.
    """

    name: str = ""
    summary: str = ""
    rules: tuple[SlotRule, ...] = ()
    algorithm: tuple[AlgorithmStep, ...] | None = None
    guard: Guard | None = None
    experts: ExpertsSetting | None = None
    targets: Targets | None = None
    formats: Mapping[str, TensorFormat] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scope:
    """What a grammar needs while it reads one document.

    Attributes:
        formats: every known format by name and alias.
        problems: where it notes what is wrong.
        include: the parts of another recipe, asked for by a value at a path of this document.
        own_formats: that the document and its includes define, by name.
    """

    formats: Mapping[str, TensorFormat]
    problems: Problems
    include: Callable[[str, KeyPath, Document], Parts]
    own_formats: Mapping[str, TensorFormat] = field(default_factory=dict)

    def find_format(self, name: str) -> TensorFormat:
        """The format of that name, the document's own first; UnknownNameError if there is none."""
        return self.own_formats[name] if name in self.own_formats else look_up("format", name, self.formats)
