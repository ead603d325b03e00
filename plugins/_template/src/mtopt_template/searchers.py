"""A searcher: by the largest error in a layer's output, over the largest output."""

from __future__ import annotations

from torch import Tensor

from mtcore.opt import Look, SearcherSpec


def largest(look: Look) -> Tensor:
    """max |ŷ - y| / max |y|; 0 where nothing changed."""
    error: Tensor = (look.rounded.float() - look.exact.float()).abs().amax()
    return error / look.exact.float().abs().amax().clamp(min=1e-30)


LARGEST = SearcherSpec("template-largest", "largest error of an output, over the largest output", largest)
