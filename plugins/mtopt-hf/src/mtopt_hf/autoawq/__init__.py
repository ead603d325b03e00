"""AutoAWQ's dialect: 4-bit integer weights in groups, with zero points."""

from mtopt_hf.autoawq.dialect import AWQ, check_plan, notes, write_checkpoint

__all__ = ["AWQ", "check_plan", "notes", "write_checkpoint"]
