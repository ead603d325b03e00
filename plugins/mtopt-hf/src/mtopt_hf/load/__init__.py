"""From a source that a user names to a model in memory with everything that came with it."""

from mtopt_hf.load.loading import load_model

__all__ = ["load_model"]
