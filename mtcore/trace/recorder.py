"""RobustTracer: records an fx.Graph for every module from one real forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from mtcore.errors import look_up
from mtcore.trace.frame import Frame
from mtcore.trace.graph import GraphCollection
from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.interpose import Call, around_module_calls
from mtcore.trace.nodes import changes_operands, spell
from mtcore.trace.record import ModuleRecord
from mtcore.trace.state import quiet_forward
from mtcore.trace.structure import has_tensor
from mtcore.trace.symbolic import BACKENDS, symbolic_trace

RECORD = "record"
"""The backend that always gives a graph: it runs the model and watches."""


def recursive_trace(
    model: nn.Module,
    inputs: object = None,
    *,
    makers: Sequence[InputMaker] = (),
    keep_values: bool = True,
    backend: str = RECORD,
) -> GraphCollection:
    """Records one forward of `model` and returns the graph of every module that it called.

    Args:
        inputs: None (made by `makers` and the built-in ones), a tensor, a tuple of arguments,
            a dict of keyword arguments, or `TraceInputs`.
        keep_values: keep a copy of every module's inputs and outputs, which `GraphCollection.replay` needs; the
            symbolic backends always do.
        backend: "record" writes down what one forward did; "fx" and "export" draw a symbolic graph of each module
            that it called, by torch.fx and torch.export, where the module allows it.

    Raises:
        UnknownNameError: no such backend.
        TraceError: no inputs were given and none could be made. A forward that fails is recorded instead.

    Example:
        >>> graphs = recursive_trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
        >>> [type(module).__name__ for module in graphs]
        ['Sequential', 'Linear', 'ReLU']
    """
    wanted = example_inputs(model, makers) if inputs is None else TraceInputs.of(inputs)
    draw = look_up("backend", backend, {RECORD: None, **BACKENDS})
    if draw is not None:
        return symbolic_trace(model, wanted, draw)
    return RobustTracer(model, keep_values=keep_values).trace(wanted)


class RobustTracer:
    """Executes the model once, with real values, and writes down what each module did.

    Python control flow, sizes and numbers read from tensors become the constants of this one run.
    A module whose forward raises keeps the graph recorded until then and its error's message.
    """

    def __init__(self, model: nn.Module, *, keep_values: bool = True) -> None:
        self._model = model
        self._keep_values = keep_values
        self._names = {id(module): name for name, module in model.named_modules()}
        tensors: list[tuple[str, Tensor]] = list(model.named_parameters(remove_duplicate=False))
        tensors += list(model.named_buffers(remove_duplicate=False))
        self._attributes: dict[int, list[str]] = {}
        for name, tensor in tensors:
            self._attributes.setdefault(id(tensor), []).append(name)
        self._kept = [tensor for _, tensor in tensors]
        self._frames: list[Frame] = []
        self._records: dict[str, ModuleRecord] = {}

    def trace(self, inputs: TraceInputs) -> GraphCollection:
        with (
            quiet_forward(self._model),
            _FunctionRecorder(self._frames),
            around_module_calls(self._model, self._around),
        ):
            try:
                self._model(*inputs.args, **inputs.kwargs)
            except Exception as error:  # noqa: BLE001  any forward may raise anything; it becomes the root's record
                self._note_failure(self._names[id(self._model)], error)
        return GraphCollection(self._model, self._records)

    def _around(self, module: nn.Module, call: Call, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        name = self._names[id(module)]
        parent = self._frames[-1] if self._frames else None
        node_args = parent.arguments(args, kwargs) if parent else None
        frame = Frame(name, module, self._attributes, args, kwargs, keep_values=self._keep_values)
        record = self._records.setdefault(name, ModuleRecord(name, frame.graph))
        record.calls += 1
        self._frames.append(frame)
        try:
            out = call(*args, **kwargs)
        except Exception as error:
            self._note_failure(name, error)
            raise
        finally:
            self._frames.pop()
        if not record.complete:
            frame.finish(out)
            frame.move_into(record)
        if parent is not None and node_args is not None:
            parent.called_module(name, module, *node_args, out)
        return out

    def _note_failure(self, name: str, error: Exception) -> None:
        record = self._records.setdefault(name, ModuleRecord(name, fx.Graph()))
        if not record.complete and record.failure is None:
            record.failure = f"{type(error).__name__}: {error}"


class _FunctionRecorder(TorchFunctionMode):
    """Hands every torch call to the innermost frame."""

    def __init__(self, frames: list[Frame]) -> None:
        super().__init__()
        self._frames = frames

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._frames or torch._C._functorch.maybe_current_level() is not None:
            return func(*args, **kwargs)  # inside a vmap tensors have no values of their own: its result is kept
        frame = self._frames[-1]
        writes = changes_operands(func, kwargs)
        before = frame.arguments(args, kwargs) if writes else None
        out = func(*args, **kwargs)
        if writes or has_tensor(out):
            node_args, node_kwargs = before or frame.arguments(args, kwargs)
            spelling = spell(func)
            frame.add(spelling.op, spelling.target, spelling.arguments(node_args), node_kwargs, out)
            frame.keep(args, kwargs)
        return out
