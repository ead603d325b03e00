"""TraceReport: what one forward told about a model, as a value that prints, compares and serialises."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from mtcore.errors import StateError
from mtcore.trace.channels import BlockGroup, SymGroup
from mtcore.trace.folds import FoldGroup
from mtcore.trace.operands import AttentionSite, StackedWeight
from mtcore.trace.shared_input import SharedInputGroup

VERSION = 1


@dataclass(frozen=True)
class CalledModule:
    """A module that the forward called, and how often."""

    name: str
    kind: str
    calls: int


@dataclass(frozen=True)
class Failure:
    """A module whose forward raised: 'Type: message'. The name of the model itself is ''."""

    module: str
    message: str


@dataclass(frozen=True)
class Count:
    """How often something happened: an operation without a rule, or a rule that raised."""

    what: str
    times: int


@dataclass(frozen=True)
class TraceReport:
    """The facts found by `analyze`. Names are dotted module names; order is the order of the first call.

    Example:
        >>> TraceReport.from_json(TraceReport("Net").to_json()) == TraceReport("Net")
        True
    """

    model: str
    called: tuple[CalledModule, ...] = ()
    uncalled: tuple[str, ...] = ()
    """Modules with own parameters that the example inputs did not reach."""
    failures: tuple[Failure, ...] = ()
    shared_inputs: tuple[SharedInputGroup, ...] = ()
    folds: tuple[FoldGroup, ...] = ()
    symbols: tuple[SymGroup, ...] = ()
    blocks: tuple[BlockGroup, ...] = ()
    attentions: tuple[AttentionSite, ...] = ()
    stacked: tuple[StackedWeight, ...] = ()
    unknown_ops: tuple[Count, ...] = ()
    """Operations without a rule that met labels; their operands were pinned and frozen."""
    rule_errors: tuple[Count, ...] = ()

    def calls(self, module: str) -> int:
        """How often a module was called, 0 when it was not."""
        return next((c.calls for c in self.called if c.name == module), 0)

    def to_json(self) -> str:
        return json.dumps({"version": VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> TraceReport:
        """Reads what `to_json` wrote.

        Raises:
            StateError: the text is no report of this version.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            if data.pop("version") != VERSION:
                raise StateError(f"trace report of another version than {VERSION}: trace the model again")
            return cls(
                model=data["model"],
                called=tuple(CalledModule(**item) for item in data["called"]),
                uncalled=tuple(data["uncalled"]),
                failures=tuple(Failure(**item) for item in data["failures"]),
                shared_inputs=tuple(
                    SharedInputGroup(g["name"], tuple(g["modules"])) for g in data["shared_inputs"]
                ),
                folds=tuple(map(FoldGroup.from_dict, data["folds"])),
                symbols=tuple(map(SymGroup.from_dict, data["symbols"])),
                blocks=tuple(map(BlockGroup.from_dict, data["blocks"])),
                attentions=tuple(
                    AttentionSite(**{**item, "scores": tuple(item["scores"]), "values": tuple(item["values"])})
                    for item in data["attentions"]
                ),
                stacked=tuple(StackedWeight(**item) for item in data["stacked"]),
                unknown_ops=tuple(Count(**item) for item in data["unknown_ops"]),
                rule_errors=tuple(Count(**item) for item in data["rule_errors"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            problem = f"{type(error).__name__}: {error}"
            raise StateError(f"not a trace report ({problem}): trace the model again") from error
