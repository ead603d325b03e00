"""The `local_hessian` algorithm: for each block of a weight, the scale under which its outputs lose least."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from mtcore.calibration.algorithms import max as max_algorithm
from mtcore.calibration.algorithms.max import MaxOptions, run_max
from mtcore.calibration.products import wanted_products
from mtcore.calibration.quantizers import factor_site, matrix_layers, planned_quantizers
from mtcore.calibration.scales import fix_amax, refuse_transformed
from mtcore.calibration.spec import AlgorithmSpec, CalibrationRun
from mtcore.calibration.statistics import Needs, Site, joined
from mtcore.formats import PER_TENSOR
from mtcore.plan import Plan


class LocalHessianOptions(BaseModel):
    """Options of `local_hessian`.

    cost: what the difference d of a block costs: "hessian", dᵀ H d with the block's own part of H = Σ x xᵀ; or
        "mse", the squares of d weighed by the diagonal of H alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cost: Literal["hessian", "mse"] = "hessian"


def needs_data(plan: Plan) -> bool:
    """Always: the inputs say what a difference costs.

    A plan without linear layers and stacked experts does without.
    """
    return True


def wanted(run: CalibrationRun, options: LocalHessianOptions) -> dict[Site, Needs]:
    """The products of what linear layers read and each stacked expert, and the magnitudes that `max` wants."""
    return joined([wanted_products(run), max_algorithm.wanted(run, MaxOptions())])


def run_local_hessian(run: CalibrationRun, options: LocalHessianOptions) -> None:
    """Set every amax as `max` does, then search those of the blocks of the weights of linear layers and
    stacked experts.

    Where block scales are stored in few bits all neighbouring codes are tried, else multiples of the magnitude.
    Scales of whole tensors and those that follow a range stay; and after an earlier step, what it set for
    activations and other layers.

    Raises:
        CalibrationError: no data, data that is not finite, or a weight that is scaled before it is rounded.
    """
    quantizers = dict(planned_quantizers(run))
    refuse_transformed(quantizers, "local_hessian")
    run.statistics.need(wanted(run, options))
    if run.first:
        run_max(run, MaxOptions())
    for key in matrix_layers(run.model, quantizers):
        quantizer = quantizers[key]
        if quantizer.format.block != PER_TENSOR:
            quantizer.set_amax(None, quantizer.outer_amax)  # an earlier search ends here
        fix_amax(run.model, quantizers, key, options.cost, run.statistics[factor_site(key)].gram)


LOCAL_HESSIAN = AlgorithmSpec(
    "local_hessian",
    "scales under which each block's outputs lose least",
    LocalHessianOptions,
    needs_data,
    run_local_hessian,
    wanted,
    cost="one run of the data with Σ x xᵀ of every input (fp32, of all layers), and some 40 roundings of weights",
    linear_only=True,
    experts=True,
)
