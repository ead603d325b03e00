"""Hugging Face models for mtcore: loading, calibration text, compressed-tensors checkpoints."""
