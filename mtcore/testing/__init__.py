"""The conformance kit: contracts that a plugin's tests subclass, one for each kind of record. Needs pytest.

A contract is a class of tests. Subclass it in a test file, under a name that starts with `Test`, and override the
fixtures that its docstring lists; everything else comes along:

    from mtcore.testing import FormatContract

    class TestMine(FormatContract):
        @pytest.fixture
        def fmt(self):
            return MINE

        @pytest.fixture
        def stated_values(self):
            return [0.0, 1.0, -2.0, -1.0]
"""

import pytest

# Before the files are imported, so that their assertions explain themselves as those of a test file do.
pytest.register_assert_rewrite(
    "mtcore.testing.algorithms",
    "mtcore.testing.commands",
    "mtcore.testing.compare",
    "mtcore.testing.exporters",
    "mtcore.testing.formats",
    "mtcore.testing.calibration_kernels",
    "mtcore.testing.kernels",
    "mtcore.testing.lint",
    "mtcore.testing.loaders",
    "mtcore.testing.quant_modules",
    "mtcore.testing.recipes",
    "mtcore.testing.searchers",
    "mtcore.testing.symbols",
    "mtcore.testing.trace_rules",
)

from mtcore.testing.algorithms import AlgorithmContract  # noqa: E402
from mtcore.testing.calibration_kernels import CalibrationKernelContract  # noqa: E402
from mtcore.testing.commands import CommandContract  # noqa: E402
from mtcore.testing.compare import assert_same_bits, assert_within_ulps, must_raise, same_bits  # noqa: E402
from mtcore.testing.exporters import ExporterContract  # noqa: E402
from mtcore.testing.formats import FormatContract  # noqa: E402
from mtcore.testing.kernels import KernelContract  # noqa: E402
from mtcore.testing.lint import LintRuleContract  # noqa: E402
from mtcore.testing.loaders import ModelLoaderContract  # noqa: E402
from mtcore.testing.quant_modules import QuantModuleContract  # noqa: E402
from mtcore.testing.recipes import RecipeContract  # noqa: E402
from mtcore.testing.searchers import SearcherContract  # noqa: E402
from mtcore.testing.symbols import SymbolContract  # noqa: E402
from mtcore.testing.toy import ToyModel, toy_batches, toy_config, toy_plan  # noqa: E402
from mtcore.testing.trace_rules import TraceRuleContract  # noqa: E402

__all__ = [
    "AlgorithmContract",
    "CalibrationKernelContract",
    "CommandContract",
    "ExporterContract",
    "FormatContract",
    "KernelContract",
    "LintRuleContract",
    "ModelLoaderContract",
    "QuantModuleContract",
    "RecipeContract",
    "SearcherContract",
    "SymbolContract",
    "ToyModel",
    "TraceRuleContract",
    "assert_same_bits",
    "assert_within_ulps",
    "must_raise",
    "same_bits",
    "toy_batches",
    "toy_config",
    "toy_plan",
]
