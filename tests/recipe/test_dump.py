"""A resolved configuration can be written down and read again without change."""

from dataclasses import replace

import pytest
import yaml

from mtcore.recipe import builtin_recipes, to_dict, to_yaml

NVFP4 = {"num_bits": (2, 1), "block_sizes": {-1: 16, "type": "dynamic", "scale_bits": (4, 3)}}
SOURCES = [
    *(spec.name for spec in builtin_recipes()),
    {"rules": []},
    {"rules": [], "targets": ["vllm", "trtllm"]},
    {"rules": [], "experts": {"min_tokens": 64, "when_starved": "more_samples", "unseen": "siblings"}},
    {"rules": [{"weight": {"format": "fp8", "options": {"a": [1]}}, "type": "nn.Linear"}], "algorithm": []},
    {"rules": [{"quantizers": "*", "set": "nvfp4", "enable": False}, {"quantizers": "*mlp*", "enable": True}]},
    {"rules": [{"together": [{"weight": "fp8"}, {"modules": "*x", "input": "off"}]}], "max_unquantized": 1},
    {"quant_cfg": {"*weight_quantizer": {"num_bits": 4, "block_sizes": {-1: 96}}, "*mlp*": NVFP4}},
    {
        "quant_cfg": {"*weight_quantizer": {"num_bits": (1, 2), "axis": 0}},
        "algorithm": ["max", {"method": "a", "b": 1}],
    },
]


def meaning(config):
    """All that a plan depends on: rules without their origins, but with the statements that they make up."""
    origins = {rule.origin: number for number, rule in enumerate(config.rules)}
    rules = [replace(rule, origin="") for rule in config.rules]
    statements = [list(origins).index(rule.origin) for rule in config.rules]
    single = (config.algorithm, config.max_unquantized, config.experts, config.targets)
    return config.name, config.summary, rules, statements, *single


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_what_is_written_is_read_again_as_it_was(source, load, formats):
    config = load(source)
    assert meaning(load(to_dict(config, formats=formats))) == meaning(config)
    assert meaning(load(yaml.safe_load(to_yaml(config, formats=formats)))) == meaning(config)


def test_the_text_tells_who_said_every_value(load, formats):
    text = to_yaml(load("nvfp4", "max_unquantized=0.5"), formats=formats)
    for line in (
        "# rule #1 of recipe nvfp4; mode: the default of this format and slot or stated",
        "# rule #2 of recipe base_exclusions",
        "# algorithm of recipe nvfp4",
        "# max_unquantized of recipe nvfp4, changed by override 'max_unquantized=0.5'",
    ):
        assert line in text


def test_notes_are_comments_of_one_line_each(load, formats):
    config = load({"quant_cfg": {"*weight_quantizer": {"num_bits": 8, "fake_quant": True}}, "name": "a\nb: c"})
    text = to_yaml(config, formats=formats)
    assert "# note: fake_quant in quant_cfg['*weight_quantizer'] of the given config has no effect" in text
    assert load(yaml.safe_load(text)).name == "a\nb: c"


def test_a_known_format_is_written_by_its_name_alone(load, formats):
    assert "formats" not in to_dict(load("int4_fp8"), formats=formats)
