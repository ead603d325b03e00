"""Kernels in Triton for the operations of `mtcore.backends`, as a plugin."""
