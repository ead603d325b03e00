"""GraphCollection: the recorded graph of every module of a model, and why some have none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import fx, nn

from mtcore.errors import TraceError
from mtcore.trace.record import ModuleRecord
from mtcore.trace.replay import Replay, replay_record

NOT_CALLED = "not called by the example inputs"


class NoGraphError(TraceError, KeyError):
    """A module without a graph; the message says why."""

    def __str__(self) -> str:
        return str(self.args[0])


class GraphCollection:
    """Graphs by module, in the order of the first calls.

    Iteration gives every module that was called, also one that failed; its graph then ends where it failed.
    """

    def __init__(self, model: nn.Module, records: Mapping[str, ModuleRecord]) -> None:
        self._model = model
        self._modules = dict(model.named_modules())
        self._names = {id(module): name for name, module in self._modules.items()}
        self._records = dict(records)

    @property
    def model(self) -> nn.Module:
        return self._model

    def __iter__(self) -> Iterator[nn.Module]:
        return (self._modules[name] for name in self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, module: object) -> bool:
        return self._names.get(id(module)) in self._records

    def __getitem__(self, module: nn.Module) -> fx.Graph:
        return self.record(module).graph

    def name(self, module: nn.Module) -> str:
        """The dotted name in the model; '' for the model itself."""
        name: str | None = self._names.get(id(module))
        if name is None:
            kind, model = type(module).__name__, type(self._model).__name__
            raise NoGraphError(f"{kind} is not a module of the traced {model}")
        return name

    def record(self, module: nn.Module) -> ModuleRecord:
        name = self.name(module)
        if name not in self._records:
            raise NoGraphError(f"no graph for {name!r} ({type(module).__name__}): {NOT_CALLED}")
        return self._records[name]

    def is_unvisited(self, module: nn.Module) -> bool:
        return self.name(module) not in self._records

    def is_failed(self, module: nn.Module) -> bool:
        """Whether there is no complete graph: the forward raised, or the module was not called."""
        return self.failure_msg(module) is not None

    def failure_msg(self, module: nn.Module) -> str | None:
        """'Type: message' of the module's exception, why it was not called, or None when all is well."""
        return NOT_CALLED if self.is_unvisited(module) else self.record(module).failure

    def calls(self, module: nn.Module) -> int:
        """How often the forward called it, 0 when not at all."""
        return 0 if self.is_unvisited(module) else self.record(module).calls

    def replay(self, module: nn.Module) -> Replay:
        """Runs the recorded graph on the recorded inputs and compares the outputs bit by bit."""
        return replay_record(self._model, module, self.record(module))
