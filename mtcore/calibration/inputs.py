"""Inputs: statistics of what linear layers read, gathered in one run of the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mtcore.calibration.loop import calibration_mode
from mtcore.calibration.products import factors_of
from mtcore.calibration.quantizers import Quantizers, disabled
from mtcore.calibration.spec import CalibrationRun
from mtcore.errors import CalibrationError
from mtcore.nn import QuantModule


@dataclass
class InputStatistics:
    """What is known about the columns of one layer's inputs.

    Attributes:
        amax: fp32 [cols], largest magnitudes.
        total: fp32 [cols], Σ |x|.
        tokens: how many rows were seen.
        sample: fp32 [≤ kept, cols], the first rows of every batch, an equal share of each.
    """

    amax: Tensor
    total: Tensor
    tokens: int
    sample: list[Tensor]

    @property
    def mean(self) -> Tensor:
        """Mean |x|, fp32 [cols]."""
        return self.total / max(1, self.tokens)

    def rows(self, most: int) -> Tensor:
        """At most about `most` sampled rows [n, cols], evenly from all batches."""
        share = max(1, most // len(self.sample))
        return torch.cat([_spread(part, share) for part in self.sample])


def collect_inputs(
    run: CalibrationRun, quantizers: Quantizers, layers: Mapping[str, QuantModule], sample: int
) -> dict[str, InputStatistics]:
    """Run the data once, unquantized, and gather the statistics of every layer's inputs.

    Args:
        sample: rows to keep of each batch.

    Raises:
        CalibrationError: no data; a layer that it never reached; inputs that are not finite. All by name.
    """
    if run.forward_loop is None:
        raise CalibrationError("this algorithm needs calibration data: give a forward_loop, or --calib")
    found: dict[str, InputStatistics] = {}

    def hook(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def look(_: nn.Module, __: object, output: Tensor) -> None:
            x = output.detach().reshape(-1, output.shape[-1]).float()
            magnitudes = x.abs()
            kept = [_spread(x, sample)]
            new = InputStatistics(magnitudes.amax(0), magnitudes.sum(0), len(x), kept)
            known = found.get(name)
            found[name] = new if known is None else _joined(known, new)

        return look

    handles = [factors_of(layer).register_forward_hook(hook(name)) for name, layer in layers.items()]
    try:
        with disabled(quantizers.values()), calibration_mode(run.model):
            run.forward_loop(run.model)
    finally:
        for handle in handles:
            handle.remove()
    _check(found, layers)
    return found


def _joined(one: InputStatistics, two: InputStatistics) -> InputStatistics:
    return InputStatistics(
        torch.maximum(one.amax, two.amax), one.total + two.total, one.tokens + two.tokens, one.sample + two.sample
    )


def _spread(rows: Tensor, count: int) -> Tensor:
    """At most `count` rows, evenly spaced."""
    return rows if len(rows) <= count else rows[torch.arange(count, device=rows.device) * len(rows) // count]


def _check(found: Mapping[str, InputStatistics], layers: Mapping[str, QuantModule]) -> None:
    unseen = sorted(set(layers) - set(found))
    if unseen:
        raise CalibrationError(f"the calibration data never reached {len(unseen)} layers: {', '.join(unseen[:5])}")
    bad = [name for name, statistics in found.items() if not bool(statistics.amax.isfinite().all())]
    if bad:
        raise CalibrationError(
            f"{bad[0]}: its inputs hold NaN or infinite values ({len(bad)} layers in all): check the data and the "
            "model's dtype"
        )
