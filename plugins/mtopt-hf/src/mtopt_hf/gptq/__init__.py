"""GPTQ's dialect: integer weights in groups or rows, with zero points of either version."""

from mtopt_hf.gptq.dialect import GPTQ, check_plan, notes, write_checkpoint

__all__ = ["GPTQ", "check_plan", "notes", "write_checkpoint"]
