"""How close a server's log-probabilities are to ours. Needs neither torch nor mtcore: it runs where a server is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FACTOR = 2.0
"""How many times the precision of the dtype a server may be away."""
ROUTED = ("MoE", "gpt-oss")
"""Models in which a last bit can send a token to another expert, and with it all that come after in its prompt."""
NEAREST = 0.75
"""The share of tokens that must agree where a router may have chosen otherwise for the rest."""


def judged(row: dict[str, Any], served: Sequence[float], facts: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The row with what was found.

    The precision of a dtype is how far our quantized model in it is from itself in fp32. A server rounds at other
    places and sums in another order; it may be `FACTOR` times as far. In fp32 the precision is that of bf16, too
    wide a bound by far; the figures say more. Where the server is known to compute another thing than the recipe
    says, that is what it is held to, and the recipe stands beside it.

    Args:
        row: the model, the format, the dtype.
        served: log-probabilities from the server.
        facts: reference.json, see vllm_write.py.
        device: cpu or gpu.
    """
    dtype = row["dtype"] if row["dtype"] != "float32" else "bfloat16"
    recipe, plain = facts["reference"], facts["plain"]
    found = {
        **row,
        "precision": rms(recipe[dtype], recipe["float32"]),
        "distance": rms(served, recipe["float32"]),
        "to_unquantized": rms(served, plain),
        "moved": rms(recipe["float32"], plain),
    }
    if device in facts["instead"]:
        _, computes, other = facts["instead"][device]
        found |= {
            "computes": computes,
            "recipe_precision": found["precision"],
            "recipe_distance": found["distance"],
            "precision": rms(other[dtype], other["float32"]),
            "distance": rms(served, other["float32"]),
        }
    bound = FACTOR * found["precision"]
    found["result"] = "differs" if found["distance"] > bound else "agrees"
    if found["result"] == "differs" and row["model"] in ROUTED:
        held_to = facts["instead"][device][2] if "computes" in found else recipe
        found["nearest"] = nearest(served, held_to["float32"])
        if found["nearest"] <= bound:
            found["result"] = "agrees but for a router"
    found["tells"] = bound < found["moved"]
    return found


def nearest(a: Sequence[float], b: Sequence[float]) -> float:
    """Root of the mean squared difference of the tokens that are nearest to each other, `NEAREST` of them."""
    apart = sorted((x - y) ** 2 for x, y in zip(a, b, strict=True))[: int(NEAREST * len(a))]
    return float(f"{(sum(apart) / len(apart)) ** 0.5:.3g}")


def rms(a: Sequence[float], b: Sequence[float]) -> float:
    """Root of the mean squared difference, to three digits."""
    return float(f"{(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)) ** 0.5:.3g}")


def last_error(text: str) -> str:
    """The last line of a log that names an error, or the last one."""
    lines = [line.strip() for line in text.splitlines() if "Error" in line]
    return (lines or text.splitlines() or ["it ended without a word"])[-1][:300]
