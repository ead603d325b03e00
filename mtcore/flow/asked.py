"""What is asked of a run that quantizes a checkpoint, and what can be said of it before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtcore.calibration import resolve_algorithms
from mtcore.errors import CalibrationError, ExportError
from mtcore.files import local_path, taken_inputs
from mtcore.flow.data_options import DataOptions
from mtcore.flow.destinations import Destinations
from mtcore.flow.experts import check_experts
from mtcore.flow.layerwise import LayerwiseOptions, is_unfinished, run_place
from mtcore.flow.statistics import kept_problems
from mtcore.flow.torchrun import several_processes
from mtcore.plugins import Registry
from mtcore.quantization.api import Config
from mtcore.recipe import QuantizeConfig, load_config


@dataclass(frozen=True)
class Asked:
    """The arguments of `quantize_checkpoint`, which says what they mean."""

    out: Path
    calib: str | Iterable[Any] | None = None
    dialect: str | None = None
    data: DataOptions | None = None
    overwrite: bool = False
    layerwise: LayerwiseOptions | None = None
    statistics: Path | None = None
    products: bool = False
    source: str = ""
    inputs: Sequence[Path] = ()

    @property
    def blockwise(self) -> bool:
        return self.layerwise is not None

    def check_way(self) -> None:
        """Raise CalibrationError for ways to work that do not go together."""
        if self.layerwise is None:
            return
        if several_processes():
            raise CalibrationError("--layerwise works in one process; start it without torchrun")
        if self.statistics is None:
            return
        if self.layerwise.propagate:
            raise CalibrationError(
                "block by block, --statistics keeps what the data tell of the original model: leave out --propagate"
            )
        if self.calib is None:
            raise CalibrationError(
                "a run block by block decides from data: give --calib beside --statistics, or leave out --layerwise"
            )

    def _inputs(self, recipe: Config, registry: Registry) -> list[tuple[str, Path]]:
        """What the run reads from this disk, and keeps there, by what it is."""
        named = not isinstance(recipe, str) or recipe in registry.recipes
        found = {
            "the model": local_path(self.source),
            "the calibration data": local_path(self.calib) if isinstance(self.calib, str) else None,
            "the directory of --statistics": self.statistics,
            "the recipe": Path(recipe) if isinstance(recipe, Path) else None if named else Path(str(recipe)),
        }
        known = [(kind, path) for kind, path in found.items() if path is not None]
        return [*known, *(("an input", path) for path in self.inputs)]

    def _check_beside(self, inputs: Sequence[tuple[str, Path]]) -> None:
        """Raise ExportError where the directories of statistics or of a run block by block cannot be made."""
        problems = [] if self.statistics is None or self.calib is None else kept_problems(self.statistics)
        if self.blockwise:
            problems += taken_inputs(run_place(self.out), inputs)
        if problems:
            raise ExportError(problems)

    def understood(self, recipe: Config, registry: Registry) -> tuple[QuantizeConfig, Destinations]:
        """The recipe, and where its checkpoints go.

        Raises:
            MtcoreError: what is misspelt, in the way or impossible, which is told before a long load.
        """
        config = load_config(recipe, formats=registry.formats, recipes=registry.recipes)
        resolve_algorithms(config.algorithm, registry.algorithms)
        goal = Destinations.of(config, self.dialect, self.out)
        goes_on = self.blockwise and is_unfinished(self.out)
        inputs = self._inputs(recipe, registry)
        goal.check(registry.exporters, overwrite=self.overwrite or goes_on, blockwise=self.blockwise, inputs=inputs)
        self._check_beside(inputs)
        check_experts(
            config.experts,
            layerwise=self.blockwise,
            kept=self.statistics is not None,
            processes=several_processes(),
            source=isinstance(self.calib, str),
        )
        return config, goal
