"""Pooling, resampling and Fourier transforms: they mix elements along some axes only."""

from __future__ import annotations

from collections.abc import Sequence

from mtcore.trace.planes import NOTHING, Shadow, repeats, spread
from mtcore.trace.rules.context import Call, RuleContext
from mtcore.trace.rules.registry import OpRules, aten

POOLS = aten(
    "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d "
    "avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
    "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d upsample_bilinear2d "
    "_upsample_bilinear2d_aa upsample_linear1d upsample_bicubic2d _upsample_bicubic2d_aa "
    "upsample_trilinear3d grid_sampler_2d grid_sampler_3d upsample_nearest1d upsample_nearest2d "
    "upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d reflection_pad1d "
    "reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d"
)
FOURIER = ["aten::_fft_r2c", "aten::_fft_c2c", "aten::_fft_c2r"]


def register(rules: OpRules) -> None:
    rules.add(POOLS, mixes_positions)
    rules.add(FOURIER, fourier)


def mixes_positions(context: RuleContext, call: Call) -> list[Shadow]:
    """[batch, channels, positions...]: linear (or a maximum) along positions, separate for each channel."""
    x = call.args[0]
    rank = {"1": 1, "2": 2, "3": 3}[next(c for c in call.name if c.isdigit())]
    for other in call.args[1:]:
        context.opaque(context.get(other))
    return [mix(context, context.get(x), range(x.dim() - rank, x.dim()), call.outs[0].shape)]


def fourier(context: RuleContext, call: Call) -> Shadow:
    x = call.args[0]
    return mix(context, context.get(x), [axis % x.dim() for axis in call.args[1]], call.outs[0].shape)


def mix(context: RuleContext, x: Shadow, axes: Sequence[int], shape: Sequence[int]) -> Shadow:
    """A homogeneous map along axes: one scale there, and no channel there can be removed."""
    lines = context.equal_along(x, axes)
    kept = []
    for plane in x.dim:
        if any(not repeats(plane, axis) for axis in axes):
            context.relations.freeze(plane, context.site)
        else:
            for axis in axes:
                plane = plane.narrow(axis, 0, 1)
            kept.append(plane)
    if any(p.dim() != len(shape) for p in lines):
        context.opaque(x)
        return NOTHING
    return Shadow(spread(lines, shape), spread(kept, shape), x.wild)
