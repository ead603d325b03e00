"""The searchers that mtcore brings: by the loss that rounding is expected to cost, and by the error it makes."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from mtcore.opt.spec import Look, SearcherSpec


def builtin_searchers() -> Iterator[SearcherSpec]:
    """The records, in the order in which they are listed."""
    yield FISHER
    yield OUTPUT_ERROR


def fisher(look: Look) -> Tensor:
    """½ Σ g² (ŷ - y)² a prediction: what the loss rises by, in nats, to second order.

    y, ŷ: the layer's outputs before and after rounding, g the gradient of the loss by y. The loss of a trained
    model is at rest (its first-order term averages out), and its second derivatives are taken to be the squares of
    first ones, element by element: the diagonal of the empirical Fisher matrix. LeCun, Denker, Solla, "Optimal
    Brain Damage", 1990, eq. 3 to 5, for weights; here by outputs, so that rounded inputs count too.
    """
    assert look.gradient is not None, "a searcher with gradients was given none"
    risen: Tensor = (look.gradient.float() * (look.rounded.float() - look.exact.float())).square().sum()
    return risen / (2 * look.samples)


def output_error(look: Look) -> Tensor:
    """|ŷ - y|² / |y|²: the power of the error in a layer's output over that of the output; 0 where that is zero."""
    exact = look.exact.float()
    power = exact.square().sum()
    error: Tensor = (look.rounded.float() - exact).square().sum()
    return error / power.clamp(min=1e-30)


FISHER = SearcherSpec(
    "fisher", "expected rise of the loss, nats a token (one backward a batch; language models)", fisher, True
)
OUTPUT_ERROR = SearcherSpec("output_error", "relative error of each layer's output; needs no loss", output_error)
