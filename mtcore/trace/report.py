"""TraceReport: what one forward told about a model, as a value that prints, compares and serialises."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtcore.errors import StateError
from mtcore.trace.channels import BlockGroup, SymGroup
from mtcore.trace.folds import FoldGroup
from mtcore.trace.operands import AttentionSite, StackedWeight
from mtcore.trace.routers import Router
from mtcore.trace.shared_input import SharedInputGroup
from mtcore.trace.slices import Slices

VERSION = 3


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
    routers: tuple[Router, ...] = ()
    unknown_ops: tuple[Count, ...] = ()
    """Operations without a rule that met labels; their operands were pinned and frozen."""
    rule_errors: tuple[Count, ...] = ()

    def calls(self, module: str) -> int:
        """How often a module was called, 0 when it was not."""
        return next((c.calls for c in self.called if c.name == module), 0)

    def to_dict(self) -> dict[str, Any]:
        """The whole report as JSON-able values; `from_dict` gives it back."""
        return {"version": VERSION, **_plain(self)}

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> TraceReport:
        """Reads what `to_json` wrote.

        Raises:
            StateError: the text is no report of this version.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise _no_report(error) from error
        return cls.from_dict(data)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TraceReport:
        """Reads what `to_dict` made, also after JSON; other keys beside the report's are left alone.

        Raises:
            StateError: the data are no report of this version.
        """
        try:
            if data["version"] != VERSION:
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
                routers=tuple(Router(**item) for item in data["routers"]),
                unknown_ops=tuple(Count(**item) for item in data["unknown_ops"]),
                rule_errors=tuple(Count(**item) for item in data["rule_errors"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _no_report(error) from error


def _plain(value: Any) -> Any:
    """Dataclasses as dicts and tuples as lists, all the way down."""
    if isinstance(value, Slices):
        return value.to_dict()
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _no_report(error: Exception) -> StateError:
    return StateError(f"not a trace report ({type(error).__name__}: {error}): trace the model again")
