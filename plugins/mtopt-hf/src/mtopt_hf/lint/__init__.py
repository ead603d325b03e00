"""What clients make of a checkpoint: their rules, and the checkpoint as they see it."""

from mtopt_hf.lint.clients import clients
from mtopt_hf.lint.rules import dialect_rules

__all__ = ["clients", "dialect_rules"]
