"""What the plugin gives to mtcore: one record of each kind, made in a file of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mtcore.hookspecs import hookimpl

if TYPE_CHECKING:
    from mtcore.backends import KernelSpec
    from mtcore.calibration import AlgorithmSpec
    from mtcore.export import ExporterSpec
    from mtcore.formats import TensorFormat
    from mtcore.nn import QuantModuleSpec
    from mtcore.recipe import RecipeSpec
    from mtcore.trace import SymbolSpec, TraceRuleSpec

MTCORE_HOOK_API = "0.1"


@hookimpl
def mtcore_formats() -> Iterator[TensorFormat]:
    from mtopt_example.fp5 import FP5_ROW

    yield FP5_ROW


@hookimpl
def mtcore_algorithms() -> Iterator[AlgorithmSpec]:
    from mtopt_example.sigma_clip import SIGMA_CLIP

    yield SIGMA_CLIP


@hookimpl
def mtcore_recipes() -> Iterator[RecipeSpec]:
    from mtopt_example.recipe import FP5

    yield FP5


@hookimpl
def mtcore_quant_modules() -> Iterator[QuantModuleSpec]:
    from mtopt_example.layer import PROJECTION

    yield PROJECTION


@hookimpl
def mtcore_symbols() -> Iterator[SymbolSpec]:
    from mtopt_example.layer import PROJECTION_SYMBOLS

    yield PROJECTION_SYMBOLS


@hookimpl
def mtcore_trace_rules() -> Iterator[TraceRuleSpec]:
    from mtopt_example.layer import SQUASH

    yield SQUASH


@hookimpl
def mtcore_kernels() -> Iterator[KernelSpec]:
    from mtopt_example.kernel import FAKE_QUANTIZE_FP5

    yield FAKE_QUANTIZE_FP5


@hookimpl
def mtcore_exporters() -> Iterator[ExporterSpec]:
    from mtopt_example.exporter import PLAIN

    yield PLAIN
