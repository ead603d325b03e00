"""mtcore: quantize any PyTorch model for the runtime that serves it."""
