"""The compressed-tensors dialect: what it can express, and how an artifact is written in it."""

from mtopt_hf.ct.check import check_plan, client_problems, notes
from mtopt_hf.ct.dialect import COMPRESSED_TENSORS, write_checkpoint

__all__ = ["COMPRESSED_TENSORS", "check_plan", "client_problems", "notes", "write_checkpoint"]
