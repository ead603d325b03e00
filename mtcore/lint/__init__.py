"""Linting checkpoints: headers and JSON read within bounds, rules and clients as records, findings as a value."""

from mtcore.lint.checkpoint import CONFIG, INDEX, SINGLE, Checkpoint, open_checkpoint
from mtcore.lint.file_rules import file_rules
from mtcore.lint.headers import BITS, Fault, TensorInfo
from mtcore.lint.json_files import read_object
from mtcore.lint.report import LintFinding, LintReport, lint
from mtcore.lint.spec import EVERYONE, ClientSpec, Hit, Reading, RuleSpec, Severity
from mtcore.lint.values import ScaleFacts, Values

__all__ = [
    "BITS",
    "CONFIG",
    "EVERYONE",
    "INDEX",
    "SINGLE",
    "Checkpoint",
    "ClientSpec",
    "Fault",
    "Hit",
    "LintFinding",
    "LintReport",
    "Reading",
    "RuleSpec",
    "ScaleFacts",
    "Severity",
    "TensorInfo",
    "Values",
    "file_rules",
    "lint",
    "open_checkpoint",
    "read_object",
]
