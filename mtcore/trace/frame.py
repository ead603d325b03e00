"""One call of one module while it is being recorded: its graph, and which node gave which tensor."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from mtcore.trace.record import ModuleRecord, Values
from mtcore.trace.state import exact_copy
from mtcore.trace.structure import has_tensor, map_tensors, parts, tensors_by_path, tensors_in

CAPTURED = "_captured_"
OUTER = "_outer_"


@dataclasses.dataclass(frozen=True)
class _Reference:
    """Where a tensor is found: an item or attribute (path) of a node's value."""

    node: fx.Node
    path: tuple[tuple[Callable[..., Any], Any], ...] = ()


class Frame:
    """One call of one module while it is being recorded."""

    def __init__(
        self, name: str, module: nn.Module, attributes: Mapping[int, list[str]],
        args: tuple[Any, ...], kwargs: Mapping[str, Any], *, keep_values: bool,
    ) -> None:  # fmt: skip
        self.graph = fx.Graph()
        self._name, self._module, self._attributes = name, module, attributes
        self._keep_values = keep_values
        self._known: dict[int, _Reference] = {}
        self._alive: list[object] = [args, kwargs]  # an id names a tensor only while the tensor lives
        self._captured: dict[str, Tensor] = {}
        self._outer: dict[str, nn.Module] = {}
        self._rng = torch.get_rng_state() if keep_values else None
        self._inputs: list[object] = []
        self._outputs: tuple[Tensor, ...] = ()
        for label, value in _argument_names(module, args, kwargs):
            node = self.graph.placeholder(label)
            self._learn(node, value)
            if keep_values:
                self._inputs.append(map_tensors(value, _copy))

    def add(self, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: object) -> None:
        node = self.graph.create_node(op, target, args, kwargs)
        self._learn(node, out)

    def keep(self, *values: object) -> None:
        self._alive.extend(values)

    def called_module(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: object
    ) -> None:
        prefix = f"{self._name}." if self._name else ""
        target = name.removeprefix(prefix)
        if not name.startswith(prefix) or module is self._module:
            target = f"{OUTER}{len(self._outer)}"
            self._outer[target] = module
        self.add("call_module", target, args, kwargs, out)

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        self.keep(args, kwargs)
        return tuple(self._argument(a) for a in args), {k: self._argument(v) for k, v in kwargs.items()}

    def finish(self, out: object) -> None:
        self.graph.output(self._argument(out))
        if self._keep_values:
            self._outputs = tuple(_copy(tensor) for tensor in tensors_in(out))

    def move_into(self, record: ModuleRecord) -> None:
        record.graph, record.complete, record.failure = self.graph, True, None
        record.captured, record.outer = self._captured, self._outer
        if self._rng is not None:
            record.values = Values(tuple(self._inputs), self._outputs, self._rng)

    def _learn(self, node: fx.Node, value: object) -> None:
        self._alive.append(value)
        for path, tensor in tensors_by_path(value):
            self._known[id(tensor)] = _Reference(node, path)

    def _argument(self, value: object) -> Any:
        if isinstance(value, Tensor):
            return self._node_of(value)
        if not has_tensor(value):
            return value
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._argument(item) for item in value))
        if isinstance(value, (tuple, list)):
            items = [self._argument(item) for item in value]
            return tuple(items) if isinstance(value, tuple) else items
        if isinstance(value, slice):
            return slice(*(self._argument(v) for v in (value.start, value.stop, value.step)))
        if type(value) is dict:
            return {key: self._argument(item) for key, item in value.items()}
        fields = {key: self._argument(item) for (_, key), item in parts(value)}
        return self.graph.call_function(type(value), (), fields)

    def _node_of(self, tensor: Tensor) -> fx.Node:
        found = self._known.get(id(tensor))
        if found is None:
            node = self.graph.create_node("get_attr", self._attribute_name(tensor))
        else:
            node = found.node
            for step, key in found.path:
                node = self.graph.call_function(step, (node, key))
        self._known[id(tensor)] = _Reference(node)
        self._alive.append(tensor)
        return node

    def _attribute_name(self, tensor: Tensor) -> str:
        prefix = f"{self._name}." if self._name else ""
        for name in self._attributes.get(id(tensor), ()):
            if name.startswith(prefix):
                return name.removeprefix(prefix)
        label = f"{CAPTURED}{len(self._captured)}"
        self._captured[label] = tensor if id(tensor) in self._attributes else _copy(tensor)
        return label


def _argument_names(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[str, object]]:
    parameters = inspect.signature(module.forward).parameters.values()
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in kinds][: len(args)]
    names += [f"args_{i}" for i in range(len(args) - len(names))]
    return [*zip(names, args, strict=True), *kwargs.items()]


def _copy(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunction():  # our copies are no part of the graph
        return exact_copy(tensor)
