"""Units: the blocks of a model one after the other, then what lies around them; each done and written down."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from mtcore.calibration import AlgorithmSpec, ParameterEdits, calibration_mode, run_algorithms
from mtcore.calibration.blocks import WHOLE_MODEL, BlockCall, BlockInputs, CalledBlock, find_blocks, inside
from mtcore.calibration.chain import AroundBlocks, BlockChain, SharedTensors, chain_calls, learn_chain, run_around
from mtcore.calibration.experts import starved_lines
from mtcore.calibration.loop import ForwardLoop
from mtcore.calibration.quantizers import disabled
from mtcore.calibration.residency import NARROW, Residency
from mtcore.calibration.statistics import Statistics, StatisticsStore
from mtcore.errors import CalibrationError
from mtcore.export import Artifact
from mtcore.export.flat import save_result
from mtcore.files import write_json
from mtcore.flow.layerwise.ceiling import Ceiling
from mtcore.flow.layerwise.directory import RunDirectory
from mtcore.flow.layerwise.options import LayerwiseOptions
from mtcore.flow.layerwise.proof import with_proven_part
from mtcore.flow.layerwise.states import States
from mtcore.flow.precision import restore_dtypes
from mtcore.flow.statistics import part_statistics
from mtcore.nn import TensorQuantizer
from mtcore.nn.quantizer_state import STATISTICS, QuantizerState
from mtcore.plan import Plan, part_of
from mtcore.quantization.collect import collect_module
from mtcore.trace import TraceInputs

AROUND = "(around the blocks)"
"""The name of the unit that is none of the blocks."""


class Units:
    """The blocks of a converted model, and what lies around them.

    The weights of a unit are on the device only while it is worked on. After a unit, its codes and the hidden
    states that it passes on lie in the run directory.
    """

    def __init__(
        self,
        model: nn.Module,
        plan: Plan,
        steps: Sequence[tuple[AlgorithmSpec, BaseModel]],
        batches: Sequence[Any],
        directory: RunDirectory,
        options: LayerwiseOptions,
        kept: frozenset[str],
        note: Callable[[str], None],
        store: StatisticsStore | None = None,
    ) -> None:
        """
        Args:
            kept: names of the parameters that get no codes.
            note: tells the user one line.
            store: where statistics are kept, and read where they are known.

        Raises:
            CalibrationError: the model has no list of blocks, or there is no such device.
            PlanError: blocks share scales.
        """
        self._model, self._plan, self._steps, self._directory = model, plan, steps, directory
        self._device = open_device(options.device)
        self._batches = [_moved(batch, self._device) for batch in batches]
        self._options, self._kept, self._note, self._store = options, kept, note, store
        self._ceiling = Ceiling(options.max_memory)
        self.blocks = find_blocks(model, [planned.name for planned in plan.quantized])
        if self.blocks == (WHOLE_MODEL,):
            raise CalibrationError(
                "the model has no list of blocks that holds its quantized layers; quantize it as a whole (without "
                "--layerwise)"
            )
        self._parts = [part_of(plan, self._belongs_to(unit)) for unit in (*self.blocks, None)]
        self._quantizers = [module for module in model.modules() if isinstance(module, TensorQuantizer)]
        self._both = options.propagate or any(spec.sequential for spec, _ in steps)
        modules = {name: module for name, module in model.named_modules() if self._outside(name)}
        own = {name: list(module.parameters(recurse=False)) for name, module in modules.items()}
        self._around = {name: parameters for name, parameters in own.items() if parameters}
        blocks = {name: list(model.get_submodule(name).parameters()) for name in self.blocks}
        # layers of another list, of an encoder say, come whole: a part may ask another for the dtype of its weight
        others = {name: list(model.get_submodule(name).parameters()) for name in self._other_layers()}
        self._on_demand = (*others, *(name for name in self._around if name not in others))
        self._residency = Residency(model, {**blocks, **self._around, **others}, self._device)
        self._dtypes: dict[str, torch.dtype] = {}

    def __len__(self) -> int:
        return len(self.blocks) + 1

    def notes(self) -> Iterator[str]:
        """What a user should know before the run."""
        if self._directory.done:
            yield f"going on after {len(self._directory.done)} of {len(self)} blocks ({self._directory.path})"
        left = len(self._plan.folds) - sum(len(part.folds) for part in self._parts)
        if left:
            yield f"{left} folds reach over several blocks and are not used"

    def run(self, advance: Callable[[int], object]) -> None:
        """Do every unit that is not done yet.

        Raises:
            CalibrationError, PlanError: see `quantize_blocks`.
        """
        advance(len(self._directory.done))
        if len(self._directory.done) == len(self):
            return
        largest = max(self.blocks, key=self._residency.size_bytes)
        self._ceiling.check_beforehand(largest, self._residency.size_bytes(largest))
        with self._buffers_on_device():
            chain, calls = self._calls() if self._batches else (None, [])
            for number, name in enumerate((*self.blocks, AROUND)):
                if name in self._directory.done:
                    continue
                with torch.random.fork_rng(_cuda(self._device)):
                    torch.manual_seed(number)  # a run that goes on here draws what an unbroken one does
                    if name == AROUND:
                        self._do_around(number, chain)
                    else:
                        self._do_block(number, [of_batch[number] for of_batch in calls])
                self._forget_statistics(number)
                self._directory.finish(name)
                shutil.rmtree(self._directory.states(number), ignore_errors=True)
                self._ceiling.check(name)
                advance(1)

    def _calls(self) -> tuple[BlockChain, list[tuple[BlockCall, ...]]]:
        """The chain, and for every batch one call a block; what enters the first block goes to the disk."""
        with disabled(self._quantizers):
            with self._residency.on_demand((*self.blocks, *self._on_demand)):
                chain = learn_chain(self._model, self.blocks, self._batches[0])
            shared, calls = SharedTensors(), []
            states = self._states(0)
            first = self.blocks[:1] if chain.table else ()
            with self._residency.on_demand((*first, *self._on_demand)):
                for index, batch in enumerate(self._batches):
                    hidden, found = chain_calls(self._model, chain, batch)
                    calls.append(shared.calls(found))
                    if not self._directory.done:
                        states.write(index, hidden, hidden if self._both else None)
        return chain, calls

    def _do_block(self, number: int, calls: Sequence[BlockCall]) -> None:
        name, part, edits = self.blocks[number], self._parts[number], ParameterEdits()
        block, states = self._model.get_submodule(name), self._states(number)
        own = [module for module in block.modules() if isinstance(module, TensorQuantizer)]
        following = self._states(number + 1)
        inputs = BlockInputs(name, calls, states.original, states.changed if self._both else states.original)
        stream = inputs.changed if self._options.propagate else inputs.original
        passed_on: dict[int, bool] = {}

        def loop(_: nn.Module) -> None:
            untouched = not self._both and not edits.originals and not any(q.enabled for q in own)
            for index, call in enumerate(calls):
                output = call.run(block, stream[index])
                passed_on[index] = untouched  # then these are the outputs of the original block already
                if untouched:
                    following.write(index, output, None)

        with self._residency.hold([name]):
            called = CalledBlock(block, calls[0], states.original[0]) if calls else block
            given = TraceInputs() if calls else None
            part = with_proven_part(part, self._steps, called, lambda full: f"block.{full[len(name) + 1 :]}", given)
            self._calibrate(number, part, loop if calls else None, edits, (inputs,))
            self._save(number, part, edits)
            with calibration_mode(self._model):
                for index, call in enumerate(calls):
                    if not passed_on.get(index):
                        with edits.originals_back(), disabled(own):
                            original = call.run(block, inputs.original[index])
                        changed = call.run(block, inputs.changed[index]) if self._both else None
                        following.write(index, original, changed)

    def _do_around(self, number: int, chain: BlockChain | None) -> None:
        part, edits, states = self._parts[number], ParameterEdits(), self._states(number)

        def loop(model: nn.Module) -> None:
            assert chain is not None
            stream = states.changed if self._options.propagate else states.original
            for index, batch in enumerate(self._batches):
                run_around(model, chain, batch, stream[index])

        folded = [name.rpartition(".")[0] for fold in part.folds for name in fold.parameters]
        held = [name for name in self._around if name in folded or self._plan_quantizes(name)]
        with self._residency.hold(held), self._residency.on_demand(self._on_demand):
            if chain is not None and part.folds:
                around = AroundBlocks(self._model, chain, self._batches[0], states.original[0])
                part = with_proven_part(part, self._steps, around, lambda full: f"model.{full}", TraceInputs())
            self._calibrate(number, part, loop if self._batches else None, edits, ())
            self._save(number, part, edits)

    def _calibrate(
        self,
        number: int,
        part: Plan,
        loop: ForwardLoop | None,
        edits: ParameterEdits,
        blocks: Sequence[BlockInputs],
    ) -> None:
        statistics = self._statistics(part, loop, blocks)
        if not part.quantized:
            return
        told = run_algorithms(self._model, part, self._steps, loop, edits, statistics, blocks, summary=True)
        assert told is not None, "a summary was asked for"
        for line in starved_lines(told.starved):
            self._note(line)
        write_json(self._directory.told(number), told.to_json())

    def _statistics(self, part: Plan, loop: ForwardLoop | None, blocks: Sequence[BlockInputs]) -> Statistics | None:
        """Of one unit, which the store keeps; None where there is no store."""
        if self._store is None:
            return None
        unit = blocks[0].name if blocks else None
        root = self._model if unit is None else self._model.get_submodule(unit)
        within = self._belongs_to(unit)
        return part_statistics(self._model, part, self._steps, self._store, loop, within, root)

    def _save(self, number: int, part: Plan, edits: ParameterEdits) -> None:
        names = {id(p): name for name, p in self._model.named_parameters() if name in self._kept}
        changed = {
            names[id(parameter)]: parameter.detach()
            for parameter, _ in edits.originals.values()
            if id(parameter) in names
        }
        modules = {planned.name: collect_module(self._model, planned) for planned in part.quantized}
        save_result(self._directory.result(number), restore_dtypes(Artifact(part, modules, changed), self._dtypes))

    def _states(self, number: int) -> States:
        return States(self._directory.states(number), len(self._batches), self._device)

    def _plan_quantizes(self, name: str) -> bool:
        return any(planned.name == name for planned in self._plan.quantized)

    def _outside(self, name: str) -> bool:
        return not any(inside(name, block) for block in self.blocks)

    def _other_layers(self) -> list[str]:
        """Items of lists of modules that neither hold blocks nor lie in one; of nested lists, the outer ones."""
        found: list[str] = []
        for name, module in self._model.named_modules():
            if (
                isinstance(module, nn.ModuleList)
                and self._outside(name)
                and not any(inside(name, f) for f in found)
            ):
                items = (f"{name}.{number}" for number in range(len(module)))
                found += [i for i in items if not any(inside(block, i) for block in self.blocks)]
        return found

    def _belongs_to(self, unit: str | None) -> Callable[[str], bool]:
        return self._outside if unit is None else lambda name: inside(name, unit)

    def _forget_statistics(self, number: int) -> None:
        for planned in self._parts[number].quantized:
            for module in self._model.get_submodule(planned.name).modules():
                if isinstance(module, QuantizerState):
                    for name in STATISTICS:
                        setattr(module, name, None)
        if self._store is not None:
            belongs = self._belongs_to(self.blocks[number] if number < len(self.blocks) else None)
            self._store.let_go(site for site in self._store.known if belongs(site[0]))

    @contextmanager
    def _buffers_on_device(self) -> Iterator[None]:
        """Buffers are small: all of them are where the blocks come, persistent ones as wide as parameters."""
        state = self._model.state_dict(keep_vars=True)
        if self._device.type == "cpu":
            self._dtypes = {name: t.dtype for name, t in state.items() if t.dtype in NARROW}
        persistent = {id(state[name]) for name in self._dtypes}
        before = [(buffer, buffer.data) for buffer in self._model.buffers()]
        try:
            for buffer, data in before:
                buffer.data = data.to(self._device, torch.float32 if id(buffer) in persistent else data.dtype)
            yield
        finally:
            for buffer, data in before:
                buffer.data = data


def _moved(value: Any, device: torch.device) -> Any:
    """The batch on the device; containers other than tuples, lists and dicts stay."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(item, device) for item in value)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    return value


def open_device(name: str) -> torch.device:
    """The device of that name.

    Raises:
        CalibrationError: there is none here.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for the device
        raise CalibrationError(f"there is no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device


def _cuda(device: torch.device) -> list[int]:
    return [torch.cuda.current_device() if device.index is None else device.index] if device.type == "cuda" else []
