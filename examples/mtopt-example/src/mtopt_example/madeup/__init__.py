"""A made-up model library: stands for the library that a plugin exists for. Knows nothing of mtcore."""

from mtopt_example.madeup.layers import Mlp, Projection, squash

__all__ = ["Mlp", "Projection", "squash"]
