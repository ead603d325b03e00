"""Quantizers and quantized layers: what a converted model is made of."""
