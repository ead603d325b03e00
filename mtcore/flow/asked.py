"""What is asked of a run that quantizes a checkpoint, and what can be said of it before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtcore.calibration import resolve_algorithms
from mtcore.errors import CalibrationError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.destinations import Destinations
from mtcore.flow.experts import check_experts
from mtcore.flow.layerwise import LayerwiseOptions, is_unfinished
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

    def understood(self, recipe: Config, registry: Registry) -> tuple[QuantizeConfig, Destinations]:
        """The recipe, and where its checkpoints go.

        Raises:
            MtcoreError: what is misspelt, in the way or impossible, which is told before a long load.
        """
        config = load_config(recipe, formats=registry.formats, recipes=registry.recipes)
        resolve_algorithms(config.algorithm, registry.algorithms)
        goal = Destinations.of(config, self.dialect, self.out)
        goes_on = self.blockwise and is_unfinished(self.out)
        goal.check(registry.exporters, overwrite=self.overwrite or goes_on, blockwise=self.blockwise)
        check_experts(
            config.experts,
            layerwise=self.blockwise,
            kept=self.statistics is not None,
            processes=several_processes(),
            source=isinstance(self.calib, str),
        )
        return config, goal
