"""The `gptq` algorithm: round weights so that each layer's outputs stay, on the inputs that it really gets."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field

from mtcore.calibration.algorithms import max as max_algorithm
from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.math import corrected_weight, descend, gptq
from mtcore.calibration.math.replay import Replay
from mtcore.calibration.products import InputProducts, wanted_products
from mtcore.calibration.quantizers import (
    Quantizers,
    WeightKey,
    factor_site,
    matrix_layers,
    planned_quantizers,
    weight_place,
    weight_tensor,
)
from mtcore.calibration.scales import BlockScales, ScaleChoice, choose_amax, refuse_transformed
from mtcore.calibration.sequential import walk_blocks
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, joined
from mtcore.errors import CalibrationError
from mtcore.formats import PER_TENSOR, WHOLE
from mtcore.nn import TensorQuantizer
from mtcore.numerics import block_amax, qparams_from_amax
from mtcore.plan import Plan


class GptqOptions(BaseModel):
    """Options of `gptq`.

    order: in which order columns are rounded: as "given"; by "importance", the largest diagonal of H first
        (act-order; every scale is then chosen before the first rounding); or "blocks" of a scale by importance.
    damping: share of the mean of H's diagonal that is added to it.
    step: columns after which the rest of the matrix is brought up to date.
    scales: how scales are chosen: "max"; "mse", least squared error; "hessian", least error of the block's outputs.
    estimate: choose the scales of a block anew when its turn comes (order "blocks" or "given").
    correct: aim at the original outputs from the inputs that earlier rounding has changed.
    correct_damping: how strongly the corrected weight is held to the original one; less fits the data more closely,
        and does worse on text of another kind.
    passes: of coordinate descent over the finished codes.
    sequential: whether a layer sees the errors of those before it: of earlier "blocks", or also of earlier
        "layers" in its own block; with "none" it is rounded on the inputs of the original model, all of whose
        products lie in memory at once, and can be decided again without data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: Literal["given", "importance", "blocks"] = "blocks"
    damping: float = Field(0.01, ge=0, le=1)
    step: int = Field(128, ge=1)
    scales: ScaleChoice = "mse"
    estimate: bool = True
    correct: bool = True
    correct_damping: float = Field(0.3, ge=0)
    passes: int = Field(0, ge=0)
    sequential: Literal["none", "blocks", "layers"] = "layers"


def needs_data(plan: Plan) -> bool:
    """Always: the inputs decide how weights are rounded."""
    return True


def run_gptq(run: CalibrationRun, options: GptqOptions) -> None:
    """Set every amax as `max` does, then round the weights of linear layers and stacked experts, block by block.

    Going by blocks or layers, an expert of a stack that no token reaches is rounded to nearest.

    After an earlier step, activations and other layers keep the magnitudes that it set.

    Raises:
        CalibrationError: no data, data that is not finite, or a model whose blocks form no chain.
    """
    if run.forward_loop is None and options.sequential != "none":
        raise CalibrationError("gptq needs calibration data: give a forward_loop, or --calib")
    quantizers = dict(planned_quantizers(run))
    refuse_transformed(quantizers, "gptq")
    if run.first:
        run_max(run, MaxOptions())
    replay = Replay()  # layers of one shape share their graphs

    def round_group(keys: tuple[WeightKey, ...], products: InputProducts) -> None:
        for together in _same_scales(quantizers, keys):
            _round_weights(run, options, quantizers, together, products, replay)

    if options.sequential == "none":
        run.statistics.need(wanted(run, options) or {})
        for keys in _readers_of_one_value(run, quantizers):
            round_group(keys, _products_of(run, keys[0]))
        return
    walk_blocks(run, quantizers, round_group, steps=options.sequential, drift=options.correct)


def wanted(run: CalibrationRun, options: GptqOptions) -> dict[Site, Needs] | None:
    """The products of what linear layers read and each stacked expert, and the magnitudes that `max` wants; None if
    it goes by blocks."""
    if options.sequential != "none":
        return None
    return joined([wanted_products(run), max_algorithm.wanted(run, MaxOptions())])


def _readers_of_one_value(run: CalibrationRun, quantizers: Quantizers) -> list[tuple[WeightKey, ...]]:
    """All matrices; those of linear layers together that the trace saw reading one value."""
    left = dict.fromkeys(matrix_layers(run.model, quantizers))
    found = []
    for group in run.plan.shared_inputs:
        keys = tuple((name, "weight") for name in group.modules if (name, "weight") in left)
        if keys:
            found.append(keys)
            for key in keys:
                del left[key]
    return [*found, *((key,) for key in left)]


def _products_of(run: CalibrationRun, key: WeightKey) -> InputProducts:
    statistics = run.statistics[factor_site(key)]
    assert statistics.gram is not None
    return InputProducts(statistics.gram, torch.zeros_like(statistics.gram), statistics.tokens)


def _same_scales(quantizers: Quantizers, group: tuple[WeightKey, ...]) -> list[list[WeightKey]]:
    """Weights that can be rounded as one matrix: of one format and outer amax, no scale shared by rows."""
    found: list[list[WeightKey]] = []
    for key in group:
        quantizer = quantizers[key]
        for keys in found:
            other = quantizers[keys[0]]
            if (
                quantizer.format == other.format
                and quantizer.format.block.rows == 1
                and _same_outer(quantizer, other)
            ):
                keys.append(key)
                break
        else:
            found.append([key])
    return found


def _same_outer(one: TensorQuantizer, other: TensorQuantizer) -> bool:
    if one.outer_amax is None or other.outer_amax is None:
        return one.outer_amax is other.outer_amax
    return bool(one.outer_amax == other.outer_amax)


def _round_weights(
    run: CalibrationRun,
    options: GptqOptions,
    quantizers: Quantizers,
    keys: list[WeightKey],
    products: InputProducts,
    replay: Replay,
) -> None:
    """Round weights that are multiplied with one input, one under the other: rows do not touch each other."""
    quantizer = quantizers[keys[0]]
    fmt, outer = quantizer.format, quantizer.outer_amax
    weights = [weight_tensor(run.model, key).detach() for key in keys]
    matrices = [quantizers[key].matrix(weight).float() for key, weight in zip(keys, weights, strict=True)]
    weight = torch.cat(matrices)
    hessian = products.hessian
    target = weight
    if options.correct and options.sequential != "none":  # nothing has drifted there
        target = corrected_weight(weight, hessian, products.drift, options.correct_damping)
    amax = (
        quantizer.amax if fmt.block == PER_TENSOR and quantizer.amax is not None else block_amax(target, fmt.block)
    )
    estimated = options.estimate and fmt.block.cols != WHOLE and options.order != "importance"
    if not estimated:
        amax = choose_amax(target, fmt, amax, outer, hessian, options.scales)
    rounded = gptq(
        target,
        hessian,
        fmt,
        amax,
        outer,
        order=options.order,
        damping=options.damping,
        step=options.step,
        estimate=BlockScales(fmt, options.scales) if estimated else None,
        replay=replay,
    )
    values = rounded.weight
    if options.passes:
        qparams = qparams_from_amax(rounded.amax, fmt, outer)
        values = descend(values, target, hessian, qparams, passes=options.passes)
    heights = [len(matrix) for matrix in matrices]
    grids = heights if fmt.block.rows == 1 else [len(rounded.amax)]
    for key, like, value, own in zip(
        keys, weights, torch.split(values, heights), torch.split(rounded.amax, grids), strict=True
    ):
        parameter, part = weight_place(run.model, key)
        run.edits.set_rounded(parameter, quantizers[key].view.from_matrix(value, like), part)
        quantizers[key].set_amax(own, outer)


GPTQ = AlgorithmSpec(
    "gptq",
    "round weights column by column, later ones make good for earlier",
    GptqOptions,
    needs_data,
    run_gptq,
    wanted,
    sequential=True,
    cost="several runs of the data, block by block, with Σ x xᵀ of one block, or of 4 GiB of stacked experts",
    linear_only=True,
    experts=True,
)
