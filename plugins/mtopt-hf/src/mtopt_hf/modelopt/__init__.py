"""ModelOpt's dialect: what it can express, and how an artifact is written in it."""

from mtopt_hf.modelopt.dialect import MODELOPT, write_checkpoint
from mtopt_hf.modelopt.scheme import check_plan, client_problems, holds, notes

__all__ = ["MODELOPT", "check_plan", "client_problems", "holds", "notes", "write_checkpoint"]
