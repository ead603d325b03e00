"""gpt-oss's dialect: experts in MXFP4, stacked as the hub stacks them."""

from mtopt_hf.mxfp4.dialect import MXFP4_EXPERTS, check_plan, check_source, notes, write_checkpoint

__all__ = ["MXFP4_EXPERTS", "check_plan", "check_source", "notes", "write_checkpoint"]
