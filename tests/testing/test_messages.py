"""Every part of the example plugin, broken on purpose: its contract says what it wants, and what it found."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mtcore.export import SourceFiles
from mtcore.formats import FloatElement
from mtcore.formats.catalog import INT8_TENSOR
from mtcore.plugins import Registry
from mtcore.testing import (
    AlgorithmContract,
    ExporterContract,
    FormatContract,
    KernelContract,
    QuantModuleContract,
    SymbolContract,
    TraceRuleContract,
)
from mtcore.testing.algorithms import Case
from mtcore.testing.exporters import toy_artifact
from mtcore.testing.trace_rules import rules_with
from mtcore.trace import TraceRuleSpec, analyze
from mtcore.trace.kernel_rules import pointwise
from mtopt_example import hooks
from mtopt_example.exporter import PLAIN, write
from mtopt_example.fp5 import FP5_ROW
from mtopt_example.kernel import FAKE_QUANTIZE_FP5, fake_quantize
from mtopt_example.layer import PROJECTION, QuantProjection, squash
from mtopt_example.madeup import Mlp, Projection
from mtopt_example.sigma_clip import SIGMA_CLIP, SigmaClipOptions, run_sigma_clip

CPU = torch.device("cpu")
INPUT = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def fails(message):
    return pytest.raises(AssertionError, match=message)


def test_a_format_with_another_split_of_bits_shows_the_first_code_that_differs():
    stated = [*FP5_ROW.element.values]
    wrong = replace(FP5_ROW, element=FloatElement(1, 3))
    with fails(r"codes of e1m3: first differing element \[9\] is 2.25, expected 2.5 \(14 of 32 differ\)"):
        FormatContract().test_every_code_has_the_stated_value(wrong, stated)


def test_a_kernel_that_is_one_bit_off_shows_the_first_value_that_differs():
    def one_off(x, amax, outer_amax, format):
        fake = fake_quantize(x, amax, outer_amax, format)
        return torch.where(fake > 0, fake.nextafter(torch.full_like(fake, torch.inf)), fake)

    wrong = replace(FAKE_QUANTIZE_FP5, run=one_off)
    with fails(r"result 0 for a \(3, 17\) matrix in torch.float32: first differing element \[0, 4\] is 0.90652"):
        KernelContract().test_results_equal_the_reference_on_every_shape(wrong, FP5_ROW, CPU, torch.float32)


def test_a_kernel_is_asked_for_formats_that_it_serves(formats):
    with fails(
        r"example.fake_quantize refuses fp8 on cpu: rounds fp5_row alone; let `fmt` be a format that it serves"
    ):
        KernelContract().test_the_operation_exists_and_the_format_is_served(FAKE_QUANTIZE_FP5, formats["fp8"], CPU)


def test_a_layer_that_turns_its_weight_round_shows_both_shapes():
    class Transposed(QuantProjection):
        def forward(self, x):
            product = self.input_quantizer(x) @ self.weight_quantizer(self.weight.T).T
            return self.output_quantizer(squash(product + self.bias))

    with fails(r"what the quantizer of 'weight' sees: shape \(6, 8\), expected \(8, 6\)"):
        QuantModuleContract().test_every_quantizer_sees_its_tensor(
            replace(PROJECTION, quantized=Transposed), Projection(8, 6), INPUT
        )


def test_symbols_on_the_wrong_axes_name_the_symbol_its_place_and_both_states():
    symbols = Registry.load([hooks], discover=False).analyze_symbols(Mlp(8, 12, 3), INPUT)
    with fails(r"symbol 'in_features' \(weight, axis 0\) is dynamic in this model, not searchable"):
        SymbolContract().test_symbols_come_to_be_in_the_stated_states(
            symbols, "down", {"in_features": "searchable"}
        )


def test_a_rule_that_allows_too_much_shows_how_much_the_outputs_change():
    wrong, model = TraceRuleSpec("madeup::squash", pointwise(homogeneous=True)), Mlp(8, 12, 3)
    report = analyze(model, INPUT, rules=rules_with([wrong]))
    with fails(r"scaling changes the outputs by .* the rule allows too much"):
        TraceRuleContract().test_every_fold_group_keeps_the_outputs(report, model, INPUT)


def forgets_down(run, options):
    run_sigma_clip(run, options)
    run.model.down.input_quantizer.set_amax(None, None)
    run.model.down.input_quantizer.disable()


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            "test_afterwards_every_quantizer_is_calibrated_and_the_model_runs",
            "not calibrated, set_amax was never called: down.input",
        ),
        (
            "test_it_leaves_no_trace_but_its_results",
            r"quantizers of 'down.input' were \(True, None\) before the run and are \(False, None\) after it",
        ),
    ],
)
def test_an_algorithm_that_forgets_a_layer_names_it(test, message):
    case = Case(replace(SIGMA_CLIP, run=forgets_down), SigmaClipOptions(), INT8_TENSOR, INT8_TENSOR)
    with fails(message):
        getattr(AlgorithmContract(), test)(case)


def test_an_exporter_that_forgets_a_file_or_a_tensor_names_it(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    artifact = toy_artifact(FP5_ROW, None, SourceFiles({}, {"tokenizer.json": tmp_path / "tokenizer.json"}))
    out = tmp_path / "out"
    out.mkdir()
    write(artifact, out)
    (out / "tokenizer.json").unlink()
    with fails(r"tokenizer.json was not copied; see SourceFiles.write_files"):
        ExporterContract().test_the_sources_files_come_along(artifact, out)
    with fails(r"gate.weight is missing; read back: \[\]"):
        ExporterContract().test_what_is_read_back_is_the_dequantized_artifact(artifact, out, lambda directory: {})


def test_an_exporter_that_refuses_its_own_formats_says_which(formats):
    artifact = toy_artifact(formats["nvfp4"], None, SourceFiles())
    with fails(r"check refuses the fixture's own formats: gate: the dialect 'plain' has no nvfp4 for its weight"):
        ExporterContract().test_it_accepts_a_plan_in_its_formats(PLAIN, artifact)
