"""Further data for experts that the calibration data hardly reach, and runs that cannot take them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from mtcore.errors import CalibrationError
from mtcore.flow.data_options import DataOptions
from mtcore.flow.hashes import hash_batches
from mtcore.flow.loaded import LoadedModel
from mtcore.plugins import Registry
from mtcore.recipe.setting import ExpertsSetting

LOG = logging.getLogger(__name__)

_TIMES = (8, 4, 2, 1.5, 1.25)
"""How many times the samples are asked for, until the source has as many."""


def check_experts(setting: ExpertsSetting, *, layerwise: bool, kept: bool, processes: bool, source: bool) -> None:
    """Refuse, before a run, what it cannot do for starved experts.

    Args:
        layerwise: it goes block by block.
        kept: its statistics are kept for other runs.
        processes: several share the data.
        source: the data come from a source that may have more.

    Raises:
        CalibrationError: by the setting, with the reason.
    """
    how = setting.when_starved
    if how == "report":
        return
    reason = None
    if kept:
        reason = "the statistics that are kept are those of the given samples alone; leave out --statistics"
    elif how == "more_samples" and layerwise:
        reason = "a run block by block fixes its data at the start; give more --samples, or choose all_experts"
    elif how == "more_samples" and processes:
        reason = "processes under torchrun share the given samples; give more --samples, or choose all_experts"
    elif how == "more_samples" and not source:
        reason = "batches in memory have no more where they come from; name a source, or choose all_experts"
    if reason is not None:
        raise CalibrationError(f"experts.when_starved is {how} ({setting.origin}), but {reason}")


def more_batches(
    source: str, loaded: LoadedModel, data: DataOptions, known: Sequence[Any], registry: Registry
) -> Iterator[Any]:
    """Batches of the source that are not among those that are known; at most seven times as many."""
    seen = {hash_batches([batch]) for batch in known}
    for times in _TIMES:
        samples = int(data.samples * times)
        try:
            found = registry.calibration_batches(source, loaded, replace(data, samples=samples))
        except CalibrationError as error:  # it has fewer: that is what is asked for here
            LOG.info("not %d samples: %s", samples, error)
            continue
        yield from (batch for batch in found if hash_batches([batch]) not in seen)
        return
