"""SymbolContract: what the symbols of a layer promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from torch import nn

from mtcore.testing.trace_rules import rules_with
from mtcore.trace import (
    SymbolRules,
    SymbolSpec,
    SymMap,
    TraceInputs,
    TraceReport,
    TraceRuleSpec,
    analyze,
    analyze_symbols,
    builtin_symbols,
)
from mtcore.trace.removal import check_removal

STATES = ("free", "constant", "dynamic", "searchable")


class SymbolContract:
    """Override the fixtures `spec`, `model`, `where`, `inputs` and `states`; and `trace_rules`, the records of
    operations that torch does not know, where the model calls some.

    `model` is small, has random parameters and holds a layer of the record's type under the dotted name `where`,
    between layers that leave its sizes free. `states` is what each symbol of that layer must come to be in it.
    """

    @pytest.fixture
    def spec(self) -> SymbolSpec:
        raise NotImplementedError("override the fixture `spec`: the SymbolSpec that is tested")

    @pytest.fixture
    def model(self) -> nn.Module:
        raise NotImplementedError("override the fixture `model`: a small model with a layer of the record's type")

    @pytest.fixture
    def where(self) -> str:
        raise NotImplementedError("override the fixture `where`: the dotted name of that layer")

    @pytest.fixture
    def inputs(self) -> object:
        raise NotImplementedError("override the fixture `inputs`: the arguments of one forward of `model`")

    @pytest.fixture
    def states(self) -> Mapping[str, str]:
        raise NotImplementedError("override the fixture `states`: symbol name → its state in this model")

    @pytest.fixture
    def trace_rules(self) -> Sequence[TraceRuleSpec]:
        return ()

    @pytest.fixture
    def symbols(
        self, spec: SymbolSpec, model: nn.Module, inputs: object, trace_rules: Sequence[TraceRuleSpec]
    ) -> SymMap:
        rules = builtin_symbols()
        rules.register(spec.type)(spec.symbols)
        return analyze_symbols(model, inputs, rules=rules_with(trace_rules), symbols=rules)

    @pytest.fixture
    def report(self, model: nn.Module, inputs: object, trace_rules: Sequence[TraceRuleSpec]) -> TraceReport:
        return analyze(model, inputs, rules=rules_with(trace_rules))

    def test_the_layer_is_of_the_records_type(self, spec: SymbolSpec, model: nn.Module, where: str) -> None:
        layer = model.get_submodule(where)
        found = SymbolRules.of([spec]).find(layer)
        assert found is spec.symbols, (
            f"{where!r} is a {type(layer).__name__}, which {spec.name!r} does not describe"
        )

    def test_every_call_gives_new_symbols(self, spec: SymbolSpec, model: nn.Module, where: str) -> None:
        layer = model.get_submodule(where)
        one, other = spec.symbols(layer).symbols, spec.symbols(layer).symbols
        assert one.keys() == other.keys(), "the names of the symbols differ from call to call"
        shared = [name for name in one if one[name] is other[name]]
        assert not shared, f"symbol {shared[0]!r} is one object for all layers; make it inside the function"

    def test_symbols_name_axes_that_exist(self, spec: SymbolSpec, model: nn.Module, where: str) -> None:
        layer = model.get_submodule(where)
        parameters = dict(layer.named_parameters())
        for name, symbol in spec.symbols(layer).symbols.items():
            if symbol.parameter:
                assert symbol.parameter in parameters, f"symbol {name!r}: no parameter {symbol.parameter!r}"
                rank = parameters[symbol.parameter].dim()
                assert symbol.axis < rank, f"symbol {name!r}: {symbol.parameter} has no axis {symbol.axis}"

    def test_symbols_come_to_be_in_the_stated_states(
        self, symbols: SymMap, where: str, states: Mapping[str, str]
    ) -> None:
        for name, state in states.items():
            assert state in STATES, f"{state!r} is no state; the states are {', '.join(STATES)}"
            symbol = symbols.get_symbol(where, name)
            place = f"{symbol.parameter.removeprefix(f'{where}.')}, axis {symbol.axis}"
            assert symbol.state == state, f"symbol {name!r} ({place}) is {symbol.state} in this model, not {state}"

    def test_searchable_sizes_can_really_be_made_smaller(
        self,
        symbols: SymMap,
        where: str,
        report: TraceReport,
        model: nn.Module,
        inputs: object,
        states: Mapping[str, str],
    ) -> None:
        for name in (n for n, state in states.items() if state == "searchable"):
            symbol = symbols.get_symbol(where, name)
            groups = [
                group
                for group in report.symbols
                if any(
                    (part.parameter, part.axes[-1:]) == (symbol.parameter, (symbol.axis,)) for part in group.members
                )
            ]
            assert len(groups) == 1, f"symbol {name!r} belongs to {len(groups)} groups of channels"
            check = check_removal(model, TraceInputs.of(inputs), groups[0])
            assert check.outcome in ("ok", "ok+attributes"), (
                f"symbol {name!r}: fewer channels in {groups[0].name} do not give the masked model: {check.outcome}"
            )
