"""Trace: run a model once; know its graphs and what belongs together."""

from mtcore.trace.analyzer import Analysis, analyze, shared_input_groups
from mtcore.trace.channels import BlockGroup, SymGroup
from mtcore.trace.explain import AxisPin, Explainer
from mtcore.trace.fold_proof import wrong_folds
from mtcore.trace.folds import FoldGroup
from mtcore.trace.graph import GraphCollection, NoGraphError
from mtcore.trace.inputs import InputMaker, TraceInputs, example_inputs
from mtcore.trace.invariance import FoldCheck, Invariance, apply_fold
from mtcore.trace.layers import builtin_symbols
from mtcore.trace.operands import AttentionSite, StackedWeight
from mtcore.trace.permutation import PermutationCheck
from mtcore.trace.processor import GraphDependencyProcessor, analyze_symbols
from mtcore.trace.proof import Proof, proof_steps, verify
from mtcore.trace.recorder import RobustTracer, recursive_trace
from mtcore.trace.replay import Replay
from mtcore.trace.report import CalledModule, Count, Failure, TraceReport
from mtcore.trace.routers import Router
from mtcore.trace.rules import Call, OpRules, RuleContext, TraceRuleSpec, builtin_rules
from mtcore.trace.shared_input import SharedInputGroup
from mtcore.trace.slices import Slices
from mtcore.trace.symbols import CLType, Symbol, SymbolRules, SymbolSpec, SymInfo, SymMap
from mtcore.trace.weightless import empty_weights

__all__ = [
    "Analysis",
    "AttentionSite",
    "AxisPin",
    "BlockGroup",
    "CLType",
    "Call",
    "CalledModule",
    "Count",
    "Explainer",
    "Failure",
    "FoldCheck",
    "FoldGroup",
    "GraphCollection",
    "GraphDependencyProcessor",
    "InputMaker",
    "Invariance",
    "NoGraphError",
    "OpRules",
    "PermutationCheck",
    "Proof",
    "Replay",
    "RobustTracer",
    "Router",
    "RuleContext",
    "SharedInputGroup",
    "Slices",
    "StackedWeight",
    "SymGroup",
    "SymInfo",
    "SymMap",
    "Symbol",
    "SymbolRules",
    "SymbolSpec",
    "TraceInputs",
    "TraceReport",
    "TraceRuleSpec",
    "analyze",
    "analyze_symbols",
    "apply_fold",
    "builtin_rules",
    "builtin_symbols",
    "empty_weights",
    "example_inputs",
    "proof_steps",
    "recursive_trace",
    "shared_input_groups",
    "verify",
    "wrong_folds",
]
