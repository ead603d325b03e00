"""Replay: running a recorded graph node by node, and comparing with what the module gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from mtcore.errors import TraceError
from mtcore.trace.record import ModuleRecord
from mtcore.trace.state import bit_equal, exact_copy, quiet_forward
from mtcore.trace.structure import map_tensors, tensors_in


@dataclass(frozen=True)
class Replay:
    """The outcome; true when every output tensor came out bit for bit."""

    exact: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.exact


def replay_record(model: nn.Module, module: nn.Module, record: ModuleRecord) -> Replay:
    if not record.complete:
        return Replay(False, f"the forward failed: {record.failure}")
    if record.values is None:
        raise TraceError(f"{record.name!r} was recorded without values: trace with keep_values=True")
    recorded = record.values
    with quiet_forward(model):
        torch.set_rng_state(recorded.rng)
        try:
            out = run_graph(record, module, [map_tensors(value, exact_copy) for value in recorded.inputs])
        except Exception as error:  # noqa: BLE001  a graph that cannot run is an answer, not a crash
            return Replay(False, f"{type(error).__name__}: {error}")
    got = tensors_in(out)
    if len(got) != len(recorded.outputs):
        return Replay(False, f"{len(got)} output tensors instead of {len(recorded.outputs)}")
    for i, (a, b) in enumerate(zip(got, recorded.outputs, strict=True)):
        if not bit_equal(a, b):
            return Replay(False, f"output tensor {i} differs")
    return Replay(True)


def run_graph(record: ModuleRecord, module: nn.Module, inputs: list[Any]) -> Any:
    """Executes the nodes in order; `inputs` are the placeholders' values."""
    values: dict[fx.Node, Any] = {}
    remaining = iter(inputs)

    def load(arg: Any) -> Any:
        """The value of an argument, in lists and dicts that a module may write into, as it may in a forward."""
        if isinstance(arg, fx.Node):
            return values[arg]
        if isinstance(arg, tuple) and not hasattr(arg, "_fields"):
            return tuple(map(load, arg))
        if isinstance(arg, list):
            return list(map(load, arg))
        if isinstance(arg, dict):
            return {key: load(value) for key, value in arg.items()}
        return fx.node.map_arg(arg, lambda node: values[node])

    for node in record.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(remaining)
        elif node.op == "get_attr":
            values[node] = record.captured.get(node.target)
            if values[node] is None:
                values[node] = _attribute(module, node.target)
        elif node.op == "output":
            return load(node.args[0])
        else:
            args, kwargs = load(node.args), load(node.kwargs)
            values[node] = _callee(record, module, node, args)(*args, **kwargs)
    return None


def _callee(record: ModuleRecord, module: nn.Module, node: fx.Node, args: tuple[Any, ...]) -> Callable[..., Any]:
    if node.op == "call_module":
        return record.outer.get(str(node.target)) or module.get_submodule(str(node.target))
    if node.op == "call_method":
        method = getattr(type(args[0]), str(node.target))
        return method  # type: ignore[no-any-return]
    assert callable(node.target)
    return node.target


def _attribute(module: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(module.get_submodule(owner), name)
