"""How close a server's log-probabilities are to ours. Needs neither torch nor mtcore: it runs where a server is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

FACTOR = 2.0
"""How many times the precision of bf16 a server may be away."""


def judged(
    row: dict[str, Any],
    served: Sequence[float],
    fp32: Sequence[float],
    bf16: Sequence[float],
    plain: Sequence[float],
) -> dict[str, Any]:
    """The row with what was found.

    Args:
        row: the model and the format.
        served: log-probabilities from the server.
        fp32, bf16: those of our quantized model in fp32 and in bf16.
        plain: those of the model that is not quantized, in fp32.
    """
    precision, distance = rms(bf16, fp32), rms(served, fp32)
    return {
        **row,
        "result": "agrees" if distance <= FACTOR * precision else "differs",
        "precision": precision,
        "distance": distance,
        "to_unquantized": rms(served, plain),
        "nll": -sum(served) / len(served),
        "nll_reference": -sum(fp32) / len(fp32),
    }


def rms(a: Sequence[float], b: Sequence[float]) -> float:
    """Root of the mean squared difference, to three digits."""
    return float(f"{(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)) ** 0.5:.3g}")


def last_error(text: str) -> str:
    """The last line of a log that names an error, or the last one."""
    lines = [line.strip() for line in text.splitlines() if "Error" in line]
    return (lines or text.splitlines() or ["it ended without a word"])[-1][:300]
