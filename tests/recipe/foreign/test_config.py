"""Whole foreign configurations resolve as their authors mean them."""

import pytest

QUICK_START = {
    "quant_cfg": {
        "*weight_quantizer": {"num_bits": 8},
        "*input_quantizer": {"num_bits": 8},
    },
    "algorithm": "max",
}
NVFP4_SAMPLE = {
    "quant_cfg": {
        "*.linear.weight_quantizer": {"num_bits": 4, "format": "nvfp4"},
        "*.linear.input_quantizer": {"num_bits": 8, "format": "fp8"},
        "*lm_head*": {"num_bits": 8},
    },
    "algorithm": "max",
}
NVFP4 = {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}, "enable": True}


def both(decide, config, module, **kwargs):
    return [str(decide(config, module, slot, **kwargs)) for slot in ("weight", "input")]


def test_the_quick_start_sample_means_int8_per_tensor(load, decide):
    config = load(QUICK_START)
    assert both(decide, config, "model.fc") == ["int8 (static)", "int8 (static)"]
    assert decide(config, "model.fc", "output") is None
    assert [step.method for step in config.algorithm] == ["max"]


def test_the_nvfp4_sample_means_the_formats_that_it_names(load, decide):
    config = load(NVFP4_SAMPLE)
    assert both(decide, config, "blocks.0.linear") == ["nvfp4 (static)", "fp8 (static)"]
    assert both(decide, config, "blocks.0.other") == ["None", "None"]
    assert both(decide, config, "lm_head") == ["int8 (static)", "int8 (static)"]


def test_a_pattern_that_matches_output_quantizers_switches_them_on(load, decide):
    assert str(decide(load(NVFP4_SAMPLE), "lm_head", "output")) == "int8 (static)"


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"num_bits": (4, 3)}, "fp8 (static"),
        ({k: v for k, v in NVFP4.items() if k != "enable"}, "nvfp4 (dynamic_blocks"),
    ],
)
def test_constants_in_place_of_a_calibrated_amax_are_honoured(numbers, said, load, decide):
    for constant, amax in (({"use_constant_amax": True}, 448), ({"constant_amax": 2688.0}, 2688)):
        setting = decide(load({"quant_cfg": {"*[kv]_bmm_quantizer": {**numbers, **constant}}}), "attn", "k")
        assert str(setting) == f"{said}, amax {amax}: no calibration)"
        assert setting.amax == amax


@pytest.mark.parametrize(
    ("pattern", "constant", "expected"),
    [
        ("*weight_quantizer", {"constant_amax": 1.0}, "for weights: a weight's amax is its own"),
        (
            "*input_quantizer",
            {"constant_amax": 1.0, "type": "dynamic"},
            "for activations: mode dynamic takes every",
        ),
        ("*input_quantizer", {"constant_amax": -1.0}, "input should be greater than"),
        ("*input_quantizer", {"constant_amax": 1.0, "use_constant_amax": True}, "give one of them"),
    ],
)
def test_constants_that_cannot_be_are_problems(pattern, constant, expected, problems_of):
    (problem,) = problems_of({"quant_cfg": {pattern: {"num_bits": (4, 3), **constant}}})
    assert expected in problem


def test_both_forms_mean_the_same(load, decide):
    old = {
        "quant_cfg": {
            "*weight_quantizer": NVFP4,
            "*input_quantizer": NVFP4,
            "*lm_head*": {"enable": False},
            "nn.BatchNorm1d": {"*": {"enable": False}},
            "default": {"enable": False},
        }
    }
    new = {
        "quant_cfg": [
            {"quantizer_name": "*", "enable": False},
            {"quantizer_name": "*weight_quantizer", "cfg": NVFP4},
            {"quantizer_name": "*input_quantizer", "cfg": NVFP4},
            {"quantizer_name": "*lm_head*", "enable": False},
            {"quantizer_name": "*", "parent_class": "nn.BatchNorm1d", "enable": False},
        ]
    }
    for config in (load(old), load(new)):
        assert both(decide, config, "a.fc") == ["nvfp4 (static)", "nvfp4 (dynamic_blocks)"]
        assert both(decide, config, "lm_head") == ["None", "None"]
        assert decide(config, "a.bn", "input", "nn.BatchNorm1d") is None
        assert any("every quantizer starts switched off" in note for note in config.notes)
        assert len(config.rules) == 4


def test_later_entries_win_and_cfg_replaces_all_attributes(load, decide):
    entries = [
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 4, "block_sizes": {-1: 128}}},
        {"quantizer_name": "*mlp*weight_quantizer", "cfg": {"axis": 0}},
    ]
    config = load({"quant_cfg": entries})
    assert str(decide(config, "a.mlp.up", "weight")) == "int8_row (static)"
    assert str(decide(config, "a.attn.q", "weight")) == "int4_b128 (static)"


def test_enable_alone_toggles_and_keeps_the_format(load, decide):
    entries = [
        {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": (4, 3)}, "enable": False},
        {"quantizer_name": "*.3.*", "enable": True},
    ]
    config = load({"quant_cfg": entries})
    assert decide(config, "layers.2.fc", "weight") is None
    assert str(decide(config, "layers.3.fc", "weight")) == "fp8 (static)"


def test_parent_class_limits_an_entry_to_a_module_type(load, decide):
    config = load({"quant_cfg": [{"quantizer_name": "*", "parent_class": "nn.Linear", "cfg": {"num_bits": 8}}]})
    assert decide(config, "a", "weight", "nn.Linear") is not None
    assert decide(config, "a", "weight", "nn.Conv2d") is None


def test_key_and_value_quantizers_of_attention(load, decide):
    config = load({"quant_cfg": {"*[kv]_bmm_quantizer": {"num_bits": (4, 3), "axis": None, "enable": True}}})
    for slot, expected in {"k": "fp8 (static)", "v": "fp8 (static)", "q": "None"}.items():
        assert str(decide(config, "layers.0.self_attn", slot)) == expected


def test_a_list_of_attributes_is_a_format_of_two_stages(load, decide):
    stages = [{"num_bits": 4, "block_sizes": {-1: 128, "type": "static"}}, {"num_bits": (4, 3)}]
    config = load({"quant_cfg": {"*weight_quantizer": stages, "*input_quantizer": {"num_bits": (4, 3)}}})
    assert both(decide, config, "a") == ["int4_b128_fp8 (static)", "fp8 (static)"]
    single = load({"quant_cfg": [{"quantizer_name": "*weight_quantizer", "cfg": [{"num_bits": 8, "axis": 0}]}]})
    assert str(decide(single, "a", "weight")) == "int8_row (static)"


@pytest.mark.parametrize(
    ("attributes", "mode"),
    [
        ({"num_bits": (4, 3)}, "fp8 (static)"),
        ({"num_bits": (4, 3), "type": "dynamic"}, "fp8 (dynamic)"),
        ({"num_bits": (4, 3), "type": "dynamic", "block_sizes": {-1: None}}, "fp8_row (dynamic)"),
        (NVFP4, "nvfp4 (dynamic_blocks)"),
        ({**NVFP4, "type": "dynamic"}, "nvfp4 (dynamic)"),
        (
            {"num_bits": (4, 3), "block_sizes": {-1: 32, "type": "dynamic", "scale_bits": (8, 0)}},
            "mxfp8_e4m3 (dynamic)",
        ),
        ({"format": "int8_row"}, "int8_row (dynamic)"),
        ({"format": "fp8", "type": "dynamic"}, "fp8 (dynamic)"),
        ({"axis": -1}, "int8_column (static)"),
    ],
)
def test_an_activations_mode_follows_its_types(attributes, mode, load, decide):
    assert str(decide(load({"quant_cfg": {"*input_quantizer": attributes}}), "a", "input")) == mode


@pytest.mark.parametrize(
    ("quant_cfg", "expected"),
    [
        ({"*weight_quantizer": {"nmu_bits": 4}}, "unknown key 'nmu_bits'. Did you mean 'num_bits'?"),
        ({"*weight_quantizer": {}}, "it names no attribute"),
        ({"*weight_quantizer": []}, "it names no attribute"),
        ({"*weight_quantizer": 8}, "input should be"),
        ({"*weight_quantizer": None}, "the entry says nothing"),
        ([{"quantizer_name": "*weight_quantizer"}], "the entry says nothing"),
        ({"*weight_quantizer": {"rotate": True}}, "True cannot be honoured: quantizers do not rotate"),
        ({"*weight_quantizer": {"bias": {"enable": True}}}, "cannot be honoured: an offset belongs to the format"),
        ({"*weight_quantizer": {"num_bits": "int8"}}, "neither a number of bits nor exponent and mantissa bits"),
        ({"*weight_quantizer": {"format": "nvpf4"}}, "no format named 'nvpf4'. Did you mean 'nvfp4'?"),
        ({"*weight_quantizer": {"format": "fp8", "num_bits": 4}}, "num_bits 4 contradicts format fp8 (8 bits)"),
        ({"*weight_quantizer": {"format": "fp8", "axis": 0}}, "format says all about the stored values; axis"),
        ({"*input_quantizer": {"block_sizes": {-1: 16}}}, "for activations: mode static is impossible"),
        ({"*lm_head*": {"axis": 0}}, "for activations: axis 0 is not one of a matrix's two"),
        ({"*weight_quantizer": [{}, {}, {}]}, "3 stages; a quantizer has one or two"),
        ({"*weight_quantizer": [{}, {}]}, "the second stage is int8; it can only be a float"),
        (
            {"*bmm2_output_quantizer": {"num_bits": 8}},
            "no quantizer's name can match '*bmm2_output_quantizer' here",
        ),
        ({"*weights": {"num_bits": 8}}, "no quantizer's name can match '*weights' here"),
    ],
)
def test_a_mistake_is_one_problem_with_its_place(quant_cfg, expected, problems_of):
    (problem,) = problems_of({"quant_cfg": quant_cfg})
    assert problem.startswith("the given config (quant_cfg.")
    assert expected in problem


def test_problems_of_both_grammars_levels_come_together(problems_of):
    config = {
        "quant_cfg": {"*weight_quantizer": {"num_bits": 99}, "*input_quantizer": {"axes": 0}},
        "algorithm": 7,
        "algo": "max",
    }
    assert len(problems_of(config)) == 4


def test_what_has_no_effect_is_noted_with_its_reason(load):
    attributes = {"num_bits": 8, "fake_quant": False, "trt_high_precision_dtype": "Half", "backend": None}
    config = load(
        {
            "quant_cfg": {"*weight_quantizer": attributes, "*bmm2_output_quantizer": {"enable": False}},
            "effective_bits": 4.5,
        }
    )
    notes = "\n".join(config.notes)
    for name in (
        "fake_quant in quant_cfg['*weight_quantizer']",
        "trt_high_precision_dtype",
        "backend",
        "effective_bits",
    ):
        assert name in notes
    assert (
        "quant_cfg['*bmm2_output_quantizer'] of the given config has no effect: no quantizer has such a name here"
        in notes
    )


def test_a_quantizer_that_does_not_exist_may_be_configured_off(load):
    config = load({"quant_cfg": {"*bmm2_output_quantizer": {"num_bits": 8, "enable": False}}})
    assert config.rules == ()
    assert len(config.notes) == 1


def test_the_coverage_guard_can_be_set_beside_quant_cfg(load):
    assert load({**QUICK_START, "max_unquantized": 1.0, "name": "port"}).max_unquantized == 1.0


def test_a_foreign_file_and_a_foreign_include_work_too(load, decide, tmp_path):
    (tmp_path / "mo.yaml").write_text(
        "quant_cfg:\n"
        "- {quantizer_name: '*', enable: false}\n"
        "- {quantizer_name: '*weight_quantizer', cfg: {num_bits: e2m1, block_sizes: {-1: 16, scale_bits: e4m3}}}\n"
        "algorithm: {method: awq_lite, alpha_step: 0.1}\n"
    )
    (tmp_path / "mine.yaml").write_text("include: mo.yaml\nrules: [{include: base_exclusions}]")
    config = load(tmp_path / "mine.yaml")
    assert str(decide(config, "a", "weight")) == "nvfp4 (static)"
    assert decide(config, "lm_head", "weight") is None
    assert config.algorithm[0].options == {"variant": "lite", "grid": 10}
    assert config.rules[0].origin == "quant_cfg entry #2 ('*weight_quantizer') of mo.yaml, line 3"


def test_overrides_reach_into_a_foreign_configuration(load, decide):
    config = load(
        NVFP4_SAMPLE,
        "quant_cfg.*.linear.weight_quantizer.format=fp8",
        "quant_cfg.*.linear.weight_quantizer.num_bits=8",
    )
    assert str(decide(config, "a.linear", "weight")) == "fp8 (static)"
