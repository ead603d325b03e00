"""Statistics of a checkpoint in a directory: gathered and kept by one run, read by others that run no data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mtcore.calibration import CalibrationRun, ForwardLoop, as_forward_loop, forward_batch
from mtcore.calibration import statistics as package
from mtcore.calibration.experts import expert_needs
from mtcore.calibration.math import histogram
from mtcore.calibration.ranks import current_ranks
from mtcore.calibration.run import Resolved, statistics_of, wanted_statistics
from mtcore.calibration.statistics import (
    Gathering,
    Needs,
    Site,
    Statistics,
    StatisticsStore,
    TensorStatistics,
    Unfinished,
    Wanted,
    gather,
    joined,
)
from mtcore.calibration.statistics.gather import all_at_once
from mtcore.calibration.statistics.known import Gather, exercised
from mtcore.errors import CalibrationError, StateError
from mtcore.files import hash_sources, parent_problems
from mtcore.flow.hashes import hash_batches, hash_model
from mtcore.flow.pace import Pace
from mtcore.formats.catalog import NVFP4
from mtcore.plan import Plan
from mtcore.trace import TraceReport

EXTRA = Needs(moments=True, histogram=True, blocks=(NVFP4.block.cols,), sample=1024)
"""What is kept of the input of every linear layer, so that other recipes can be decided from it."""


def open_store(
    directory: Path,
    model: nn.Module,
    batches: Sequence[Any] | None,
    *,
    products: bool = False,
    writes: bool = True,
    let_go: bool = False,
) -> StatisticsStore:
    """The store of a directory for this model, as it was loaded, and these data.

    Args:
        batches: None where no data are given: those of the store are taken as they are.
        products, writes: see `StatisticsStore`.
        let_go: see `hash_model`.

    Raises:
        StateError: the statistics there are of other weights, data or code; or, without data, there are none.
    """
    key = {"weights": hash_model(model, let_go=let_go), "code": hash_gathering()}
    if batches is None:
        store = StatisticsStore.open(directory, key)
        if not store.known:
            raise StateError(
                f"{directory}: no statistics lie there; gather them with `mtopt quantize --statistics`"
            )
        return store
    store = StatisticsStore.open(directory, {**key, "data": hash_batches(batches)})
    store.products, store.writes = products, writes
    if writes:
        store.tidy()
    return store


def kept_problems(directory: Path) -> list[str]:
    """Why statistics cannot be kept in a directory; empty if they can."""
    if directory.exists() and not directory.is_dir():
        return [f"{directory}: is a file; name a directory for the statistics"]
    return parent_problems(directory / "any")


def hash_gathering() -> str:
    """A hash of the code that gathers statistics; see `hash_sources`."""
    return hash_sources([*sorted(Path(str(package.__file__)).parent.glob("*.py")), Path(str(histogram.__file__))])


def kept_trace(store: StatisticsStore, make: Callable[[], TraceReport | None]) -> TraceReport | None:
    """The trace that lies in the store; else one that is made now, and kept."""
    text = store.trace()
    if text is not None:
        return TraceReport.from_json(text)
    report = make()
    if report is not None:
        store.keep_trace(report.to_json())
    return report


def stored_statistics(
    model: nn.Module,
    plan: Plan,
    steps: Resolved,
    store: StatisticsStore,
    batches: Sequence[Any] | None,
    on_batch: Callable[[Any], None],
) -> Statistics:
    """The statistics of a store for a converted model; what is missing there is gathered from the data and kept.

    What whole batches told is kept now and then (see `Pace`), and after an exception in the data; the next run of
    the same data goes on after them.

    Args:
        batches: None where no data shall run.

    Raises:
        CalibrationError: a step runs the data itself, and there are none.
    """
    known = {site: statistics.to(_device(model, site)) for site, statistics in store.known.items()}
    if batches is None:
        _refuse_steps_with_data(model, plan, steps)
        advice = (
            f"{store.directory} does not hold them; run `mtopt quantize` with this recipe, --calib and "
            "--statistics once, which adds them"
        )
        return Statistics(None, known, advice)

    def run(wanted: Wanted) -> Mapping[Site, TensorStatistics]:
        if current_ranks() is not None:  # what one of them has gathered alone is of no use to the next run
            return of_changed(wanted)
        return _gather(model, plan, wanted, store, batches, on_batch)

    def of_changed(wanted: Wanted) -> Mapping[Site, TensorStatistics]:
        return gather(model, as_forward_loop(batches, on_batch=on_batch), wanted, plan.shared_inputs)

    return _kept(model, plan, steps, store, known, run, of_changed)


def part_statistics(
    model: nn.Module,
    part: Plan,
    steps: Resolved,
    store: StatisticsStore,
    forward_loop: ForwardLoop | None,
    within: Callable[[str], bool],
    root: nn.Module,
) -> Statistics:
    """As `stored_statistics`, of a part of a converted model, from the data of the original model.

    Args:
        part: the plan of that part.
        forward_loop: runs the part on its data; None where there are none.
        within: tells the names of the part's modules.
        root: what runs once a batch.
    """
    known = {site: s.to(_device(model, site)) for site, s in store.known.items() if within(site[0])}
    if forward_loop is None:
        return Statistics(None, known)

    def run(wanted: Wanted) -> Mapping[Site, TensorStatistics]:
        return gather(model, forward_loop, wanted, part.shared_inputs, root)

    statistics = _kept(model, part, steps, store, known, run, run, within)
    if not part.quantized:  # nobody asks, yet other recipes may
        statistics.need({}, _extra(model, store, within))
    return statistics


def _kept(
    model: nn.Module,
    plan: Plan,
    steps: Resolved,
    store: StatisticsStore,
    known: Mapping[Site, TensorStatistics],
    run: Gather,
    of_changed: Gather,
    within: Callable[[str], bool] = lambda name: True,
) -> Statistics:
    """Statistics that keep in a store what they gather, and more than was asked for.

    Args:
        run: gathers of the model as it was loaded.
        of_changed: gathers of the model with folds, and keeps nothing.
    """

    def run_and_keep(wanted: Wanted) -> Mapping[Site, TensorStatistics]:
        if statistics.folded:  # then the values are not those of the weights that the store is of
            return of_changed(wanted)
        found = run(_with_extra(model, wanted, store, within))
        sound = all_at_once([exercised(site, of_site) for site, of_site in found.items()])
        ranks = current_ranks()
        with nullcontext() if ranks is None else ranks.together():
            if False not in sound:  # else the run stops, and what it told is not to be trusted
                store.add(found)
        return found

    statistics = Statistics(run_and_keep, known)
    if store.products:
        counts = expert_needs(model, (planned.name for planned in plan.quantized))
        wanted = wanted_statistics(CalibrationRun(model, plan, None), steps)
        statistics.need({}, joined([wanted, counts, _extra(model, store, within)]))
    return statistics


def _gather(
    model: nn.Module,
    plan: Plan,
    wanted: Wanted,
    store: StatisticsStore,
    batches: Sequence[Any],
    on_batch: Callable[[Any], None],
) -> Mapping[Site, TensorStatistics]:
    before = store.unfinished(wanted)
    known = {} if before is None else {s: k.to(_device(model, s)) for s, k in before.known.items()}
    gathering = Gathering(model, wanted, plan.shared_inputs, known)
    gathering.batches, gathering.marking = 0 if before is None else before.batches, True
    for batch in batches[: gathering.batches]:
        on_batch(batch)
    pace = Pace()

    def keep(found: dict[Site, TensorStatistics] | None) -> None:
        if found is not None:
            store.keep_unfinished(Unfinished(dict(wanted), gathering.batches, found))

    try:
        with gathering.running():
            for batch in batches[gathering.batches :]:
                forward_batch(model, batch)
                on_batch(batch)
                pace.perhaps(lambda: keep(gathering.so_far()), gathering.nbytes)
        if not batches:
            raise CalibrationError("the calibration data held no batch")
        return gathering.results()
    except BaseException:
        keep(gathering.marked())
        raise


def _extra(model: nn.Module, store: StatisticsStore, within: Callable[[str], bool]) -> dict[Site, Needs]:
    """What other recipes may want of every linear layer."""
    linear = [name for name, module in model.named_modules() if within(name) and isinstance(module, nn.Linear)]
    return {(name, "input"): EXTRA | Needs(gram=store.products) for name in linear}


def _with_extra(
    model: nn.Module, wanted: Wanted, store: StatisticsStore, within: Callable[[str], bool]
) -> dict[Site, Needs]:
    """What is wanted, and what other recipes may want, of every linear layer.

    What is gathered takes the place of what the store has of a value, so all of that is gathered again.
    """
    total = dict(wanted)
    for site, extra in _extra(model, store, within).items():
        known = store.known.get(site)
        if site in total or known is None or not known.covers(extra):
            kept = Needs(gram=known is not None and known.gram is not None)
            total[site] = total.get(site, Needs()) | extra | kept
    return total


_INSTEAD = {"gptq": "give gptq the option `sequential: none`"}


def _refuse_steps_with_data(model: nn.Module, plan: Plan, steps: Resolved) -> None:
    run = CalibrationRun(model, plan, None)
    themselves = [spec.name for spec, options in steps if statistics_of(run, spec, options) is None]
    if themselves:
        raise CalibrationError(
            f"{' and '.join(themselves)} runs the data itself with these options, and cannot be decided from "
            f"statistics: quantize with --calib, or {_INSTEAD.get(themselves[0], 'choose another algorithm')}"
        )


def _device(model: nn.Module, site: Site) -> torch.device:
    module = model.get_submodule(site[0])
    parameters: Iterable[nn.Parameter] = (*module.parameters(), *model.parameters())
    return next(iter(parameters)).device
