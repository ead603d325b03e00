"""Quantize block by block: calibrate one block, write its codes, pass its outputs on, forget it; then export."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mtcore.backends import offered
from mtcore.calibration import CalibrationSummary, resolve_algorithms
from mtcore.calibration.statistics import StatisticsStore
from mtcore.errors import StateError
from mtcore.export import Artifact, UnifiedExporter
from mtcore.export.flat import Results, StoredModules, StoredTensors
from mtcore.flow.hashes import hash_batches, hash_model, hash_plan, hash_values
from mtcore.flow.layerwise.ceiling import Ceiling
from mtcore.flow.layerwise.directory import RunDirectory, run_directory
from mtcore.flow.layerwise.options import LayerwiseOptions
from mtcore.flow.layerwise.units import Units, open_device
from mtcore.flow.loaded import LoadedModel
from mtcore.flow.report import Phase, Reporter
from mtcore.plan import Plan
from mtcore.plugins import Registry
from mtcore.quantization.collect import unquantized_state
from mtcore.quantization.convert import convert
from mtcore.quantization.kernels import assign_kernels
from mtcore.quantization.tied import tied_tensors

PhaseMaker = Callable[[str, int | None, str], AbstractContextManager[Phase]]


def quantize_blocks(
    loaded: LoadedModel,
    plan: Plan,
    batches: Sequence[Any],
    out: Path,
    *,
    dialect: str,
    options: LayerwiseOptions,
    registry: Registry,
    reporter: Reporter,
    phase: PhaseMaker,
    overwrite: bool = False,
    store: StatisticsStore | None = None,
) -> CalibrationSummary:
    """Carry out a plan block by block, and write the checkpoint; returns what rounding costs.

    Everything that is finished lies in `<out>.run` until the end, so that the same call goes on there after the
    process was killed, at any moment, and ends with the same bytes.

    Args:
        loaded: its weights may lie in files that are larger than memory; its model is as it was afterwards.
        plan: without errors, and one that the dialect can write.
        batches: may be empty where nothing needs data.
        phase: opens a phase of the run.
        store: where statistics are kept, and read where they are known; a block's before it is done.

    Raises:
        StateError: an unfinished run of something else lies beside `out`, or another process works on it.
        PlanError, CalibrationError: the model cannot be taken block by block; the memory does not suffice; or what
            the algorithms raise.
        ExportError: `out` cannot be written.
    """
    key = {
        "model": hash_model(loaded.model),
        "recipe": hash_plan(plan),
        "data": hash_batches(batches),
        "dialect, option or version": hash_values(
            {
                "dialect": dialect,
                "propagate": options.propagate,
                "device": options.device.partition(":")[0],
                "statistics": None if store is None else [str(store.directory.resolve()), store.products],
            }
        ),
    }
    exporter = UnifiedExporter(registry.exporters)
    with run_directory(out, key, restart=options.restart) as directory:
        if not directory.placed(out):  # killed after the very last step otherwise
            exporter.check_target(dialect, out, overwrite=overwrite)
            artifact = _calibrate(loaded, plan, batches, directory, options, registry, reporter, phase, store)
            with phase("export", None, ""):
                exporter.export(artifact, out, dialect, overwrite=overwrite, work=directory.checkpoint)
            Ceiling(options.max_memory).check("export")
        told = directory.summary()
        directory.remove()
    return told


def _disk_problem(error: OSError, directory: RunDirectory) -> str:
    full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
    why = "the disk is full" if full else error.strerror or str(error)
    return f"{error.filename or directory.path}: {why}"


def _calibrate(
    loaded: LoadedModel,
    plan: Plan,
    batches: Sequence[Any],
    directory: RunDirectory,
    options: LayerwiseOptions,
    registry: Registry,
    reporter: Reporter,
    phase: PhaseMaker,
    store: StatisticsStore | None,
) -> Artifact:
    """All units that are not done yet; the artifact lies on the disk afterwards."""
    steps = resolve_algorithms(plan.algorithm, registry.algorithms)
    model, journal = convert(loaded.model, plan, registry.quant_modules)
    try:
        assign_kernels(model, registry.kernels, open_device(options.device))
        tensors, tied = tied_tensors(unquantized_state(model, plan))
        units = Units(model, plan, steps, batches, directory, options, frozenset(tensors), reporter.note, store)
        if not directory.exporting:
            for text in units.notes():
                reporter.note(text)
            try:
                kernels = offered(registry.kernels.values())
                with kernels, phase("calibrate", len(units), "blocks") as progress:
                    units.run(progress.advance)
            except (Exception, KeyboardInterrupt) as error:
                kept = f"{len(directory.done)} of {len(units)} blocks are done and kept"
                if isinstance(error, OSError):
                    raise StateError(
                        f"{_disk_problem(error, directory)}; {kept}, and the same call goes on"
                    ) from error
                if directory.done:
                    reporter.note(f"{kept}; the same call goes on ({directory.path})")
                raise
            directory.begin_export()
    finally:
        journal.undo()
    files = [Results.of_file(directory.result(number)) for number in range(len(units))]
    return Artifact(plan, StoredModules(plan, files), StoredTensors(tensors, files), tied, loaded.files)
