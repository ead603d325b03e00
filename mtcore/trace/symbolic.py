"""Symbolic graphs of modules, by torch.fx or torch.export, in the collection that the recorder fills too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from mtcore.trace.graph import GraphCollection
from mtcore.trace.inputs import TraceInputs
from mtcore.trace.interpose import Call, around_module_calls
from mtcore.trace.record import ModuleRecord, Values
from mtcore.trace.state import exact_copy, quiet_forward
from mtcore.trace.structure import map_tensors, tensors_in


@dataclass(frozen=True)
class Drawn:
    """A graph, the values of its placeholders for one call, and constants that it reads by name."""

    graph: fx.Graph
    inputs: tuple[object, ...]
    captured: Mapping[str, Tensor] = field(default_factory=dict)


Draw = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Drawn]
"""Makes the graph of a module for a call with these arguments; raises what the tracer raises."""


@dataclass
class _Call:
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rng: Tensor
    outputs: tuple[Tensor, ...] = ()


def symbolic_trace(model: nn.Module, inputs: TraceInputs, draw: Draw) -> GraphCollection:
    """The graph of every module that a forward calls, drawn without values; what cannot be drawn says why.

    One real forward gives the modules, their arguments and what a replay must give.
    """
    names = {id(module): name for name, module in model.named_modules()}
    records: dict[str, ModuleRecord] = {}
    calls: dict[str, _Call] = {}

    def around(module: nn.Module, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = names[id(module)]
        record = records.setdefault(name, ModuleRecord(name, fx.Graph()))
        record.calls += 1
        if name in calls:
            return call(*args, **kwargs)
        given = map_tensors(args, exact_copy), map_tensors(dict(kwargs), exact_copy)
        seen = calls[name] = _Call(*given, torch.get_rng_state())
        try:
            out = call(*args, **kwargs)
        except Exception as error:
            record.failure = f"{type(error).__name__}: {error}"
            raise
        seen.outputs = tuple(exact_copy(tensor) for tensor in tensors_in(out))
        return out

    with quiet_forward(model):
        try:
            with around_module_calls(model, around):
                model(*inputs.args, **inputs.kwargs)
        except Exception as error:  # noqa: BLE001  any forward may raise anything; it is the root's failure
            root = records.setdefault("", ModuleRecord("", fx.Graph()))
            root.failure = root.failure or f"{type(error).__name__}: {error}"
        for name, record in records.items():
            if record.failure is None:
                _fill(record, model.get_submodule(name), calls[name], draw)
    return GraphCollection(model, records)


def _fill(record: ModuleRecord, module: nn.Module, call: _Call, draw: Draw) -> None:
    try:
        drawn = draw(module, call.args, call.kwargs)
    except Exception as error:  # noqa: BLE001  a tracer may raise anything; the record carries it
        record.failure = f"{type(error).__name__}: {error}"
        return
    record.graph, record.captured, record.complete = drawn.graph, drawn.captured, True
    record.values = Values(drawn.inputs, call.outputs, call.rng)


def draw_fx(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Drawn:
    """By `torch.fx`: arguments that hold no tensor are constants of the graph."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    fixed = {name: value for name, value in bound.arguments.items() if not tensors_in(value)}
    graph = fx.Tracer().trace(module, concrete_args=fixed)
    return Drawn(graph, tuple(bound.arguments.values()))


def draw_export(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Drawn:
    """By `torch.export`, not strict: ATen operations on the module's parameters, modules below it inlined."""
    exported = torch.export.export(module, args, kwargs, strict=False).module()
    for node in [n for n in exported.graph.nodes if n.op == "call_module" and not n.users]:
        exported.graph.erase_node(node)  # guards on shapes
    own = {name for name, _ in (*module.named_parameters(), *module.named_buffers())}
    targets = {str(node.target) for node in exported.graph.nodes if node.op == "get_attr"} - own
    return Drawn(exported.graph, tuple(pytree.tree_leaves((args, kwargs))), {t: _at(exported, t) for t in targets})


def _at(module: nn.Module, name: str) -> Any:
    for part in name.split("."):
        module = getattr(module, part)
    return module


BACKENDS: dict[str, Draw] = {"fx": draw_fx, "export": draw_export}
