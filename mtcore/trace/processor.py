"""GraphDependencyProcessor: puts what the forward showed into a SymMap."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from torch import nn

from mtcore.trace.analyzer import Analysis
from mtcore.trace.channels import CONSTANT, SEARCHABLE, SymGroup
from mtcore.trace.depth import runs_without, stacks_of_blocks
from mtcore.trace.inputs import InputMaker
from mtcore.trace.layers import builtin_symbols
from mtcore.trace.rules import OpRules
from mtcore.trace.symbols import Symbol, SymbolRules, SymMap


def analyze_symbols(
    model: nn.Module,
    inputs: object = None,
    *,
    makers: Sequence[InputMaker] = (),
    rules: OpRules | None = None,
    symbols: SymbolRules | None = None,
) -> SymMap:
    """The symbols of a model, linked and in their states, after one forward.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> [(name, symbol.state) for name, symbol in analyze_symbols(model).named_symbols("searchable", "dynamic")]
        [('0.out_features', 'searchable'), ('2.in_features', 'dynamic')]
    """
    sym_map = SymMap(model, symbols or builtin_symbols())
    analysis = Analysis(model, inputs, makers=makers, rules=rules)
    GraphDependencyProcessor(model, analysis, sym_map).process()
    return sym_map


class GraphDependencyProcessor:
    """Links the symbols of one group to the first one that leaves a layer, and disables what cannot change.

    The groups come from the operations' rules; a rule is what handles a node. Modules that were not called
    keep nothing: their symbols are disabled.
    """

    def __init__(self, model: nn.Module, analysis: Analysis, sym_map: SymMap) -> None:
        self._model, self._analysis, self._map = model, analysis, sym_map

    def process(self) -> None:
        at: dict[tuple[str, int], list[SymGroup]] = {}
        for group in self._analysis.report.symbols:
            for part in group.members:
                if part.axes:
                    at.setdefault((part.parameter, part.axes[-1]), []).append(group)
        by_group: dict[int, list[Symbol]] = {}
        for _, symbol in list(self._map.named_symbols()):
            groups = at.get((symbol.parameter, symbol.axis), [])
            if not symbol.parameter or symbol.state == CONSTANT:
                continue
            if len({id(g) for g in groups}) == 1 and groups[0].state != CONSTANT:
                by_group.setdefault(id(groups[0]), []).append(symbol)
            else:  # fused, frozen or never seen
                symbol.disable()
        for symbols in by_group.values():
            self._link(symbols)
        self._add_blocks()
        self._add_widths(by_group)
        self._add_depths()

    def _link(self, symbols: list[Symbol]) -> None:
        root = next((s for s in symbols if s.state == SEARCHABLE), None)
        if root is None:
            symbols[0].disable()
            root = symbols[0]
        for symbol in symbols:
            if symbol is not root and symbol.state != CONSTANT:
                symbol.link_to(root)

    def _add_blocks(self) -> None:
        """Heads and experts belong to the innermost module that owns all their parameters, each by a name."""
        sites = {site.module for site in self._analysis.report.attentions}
        for group in self._analysis.report.blocks:
            owner = _owner(group)
            symbol = Symbol(is_searchable=True)
            if group.state != SEARCHABLE:
                symbol.disable()
            if group.chosen_in:
                self._add(owner, "num_experts", symbol)
            elif owner in sites:
                self._add(owner, "num_kv_heads", symbol)
                queries = Symbol()
                queries.link_to(symbol)
                self._add(owner, "num_heads", queries)
                size = Symbol()
                size.disable()  # heads go whole
                self._add(owner, "head_dim", size)
            else:
                self._add(owner, "blocks", symbol)

    def _add_widths(self, by_group: Mapping[int, Sequence[Symbol]]) -> None:
        """A width that begins and ends inside one module, the inner one of an MLP, is a symbol of that module."""
        for group in self._analysis.report.symbols:
            owner = _owner(group)
            linked = by_group.get(id(group), ())
            if owner and linked and linked[0].root.state == SEARCHABLE:
                width = Symbol()
                width.link_to(linked[0].root)
                self._add(owner, "width", width)

    def _add_depths(self) -> None:
        """A stack of blocks may be made shorter if the model runs without the last of them."""
        if self._analysis.report.failures or any(
            parameter.device.type == "meta" for parameter in self._model.parameters()
        ):
            return  # nothing can be run
        for name in stacks_of_blocks(self._model, self._analysis.report):
            depth = Symbol(is_searchable=True)
            last = list(dict(self._model.get_submodule(name).named_children()))[-1]
            if not runs_without(self._model, self._analysis.inputs, [f"{name}.{last}" if name else last]):
                depth.disable()
            self._add(name, "depth", depth)

    def _add(self, module: str, name: str, symbol: Symbol) -> None:
        """Under the name, or the first free one of name_2, name_3, …: a module may own several groups."""
        taken = {full for full, _ in self._map.named_symbols()}
        wanted, number = name, 2
        while (f"{module}.{wanted}" if module else wanted) in taken:
            wanted, number = f"{name}_{number}", number + 1
        self._map.set_symbol(module, wanted, symbol)


def _owner(group: SymGroup) -> str:
    """The innermost module that owns all parameters of a group."""
    owners = [p.split(".")[:-1] for p in group.parameters]
    return ".".join(os.path.commonprefix(owners))  # noqa: RUF071  of lists, item by item
