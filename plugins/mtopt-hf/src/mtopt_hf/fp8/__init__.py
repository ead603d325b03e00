"""DeepSeek's dialect: FP8 weights in tiles, with `weight_scale_inv`."""

from mtopt_hf.fp8.dialect import FP8, check_plan, notes, write_checkpoint

__all__ = ["FP8", "check_plan", "notes", "write_checkpoint"]
