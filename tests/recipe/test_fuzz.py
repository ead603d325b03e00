"""Whatever is loaded gives a configuration or a RecipeError, and nothing else."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtcore.errors import RecipeError
from mtcore.formats import builtin_formats
from mtcore.recipe import QuantizeConfig, builtin_recipes, load_config, to_dict
from mtcore.recipe.setting import SLOTS

FORMATS = {name: fmt for fmt in builtin_formats() for name in (fmt.name, *fmt.aliases)}
RECIPES = {spec.name: spec for spec in builtin_recipes()}

WORDS = st.sampled_from(
    [
        *("name", "summary", "include", "formats", "rules", "algorithm", "max_unquantized", "quant_cfg", "default"),
        *(
            "modules",
            "type",
            "skip",
            "set",
            "quantizers",
            "only",
            "enable",
            "together",
            "method",
            "options",
            "mode",
        ),
        *(
            "quantizer_name",
            "parent_class",
            "cfg",
            "num_bits",
            "axis",
            "block_sizes",
            "scale_bits",
            "unsigned",
            "format",
        ),
        *("element", "scales", "kind", "bits", "block", "int", "fp32", "zero_point", "amax_to", "via", "rounding"),
        *(
            "*",
            "*weight_quantizer",
            "*input_quantizer",
            "*lm_head*",
            "nn.Linear",
            "fp8",
            "nvfp4",
            "int8_row",
            "max",
        ),
        *(
            "static",
            "dynamic",
            "dynamic_blocks",
            "weight",
            "any",
            "base_exclusions",
            "e4m3",
            "rotate",
            "bias",
            "-1",
        ),
        *SLOTS,
    ]
)
LEAVES = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text(max_size=5) | WORDS
KEYS = WORDS | st.text(max_size=5) | st.integers(-3, 3)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)

SLOT = WORDS | st.booleans() | st.fixed_dictionaries({"format": WORDS}, optional={"mode": WORDS, "options": JSON})
RULE = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*SLOTS, "set"), SLOT),
        "modules": WORDS | st.lists(WORDS, max_size=2),
        "quantizers": WORDS,
        "only": WORDS,
        "skip": st.booleans(),
        "enable": st.booleans(),
        "together": st.lists(JSON, max_size=2),
    },
)
OWN = st.fixed_dictionaries(
    {"rules": st.lists(RULE | JSON, max_size=4)},
    optional={"algorithm": JSON, "include": JSON, "formats": JSON, "max_unquantized": LEAVES},
)
ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        "num_bits": st.integers(0, 9) | st.tuples(st.integers(0, 5), st.integers(0, 4)) | LEAVES,
        "axis": st.integers(-3, 3) | JSON,
        "block_sizes": st.dictionaries(st.integers(-3, 1), st.integers(-1, 40) | st.none(), max_size=2) | JSON,
        "type": WORDS,
        "unsigned": st.booleans(),
        "narrow_range": st.booleans(),
        "enable": st.booleans(),
        "format": WORDS,
        "rotate": JSON,
    },
)
CFG = ATTRIBUTES | st.lists(ATTRIBUTES, max_size=3) | JSON
ENTRY = st.fixed_dictionaries({"quantizer_name": WORDS}, optional={"cfg": CFG, "enable": st.booleans()})
FOREIGN = st.fixed_dictionaries(
    {"quant_cfg": st.lists(ENTRY | JSON, max_size=4) | st.dictionaries(WORDS, CFG, max_size=4)},
    optional={"algorithm": JSON},
)
QUICKLY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(source, overrides=()):
    """The configuration, or None for a RecipeError."""
    try:
        config = load_config(source, formats=FORMATS, recipes=RECIPES, overrides=overrides)
    except RecipeError:
        return None
    assert isinstance(config, QuantizeConfig)
    assert 0 <= config.max_unquantized <= 1
    return config


@QUICKLY
@given(source=JSON | OWN | FOREIGN)
def test_any_json_gives_a_configuration_or_a_recipe_error(source):
    config = outcome(source)
    if config is not None:
        again = outcome(to_dict(config, formats=FORMATS))
        assert again is not None
        assert [rule.pattern for rule in again.rules] == [rule.pattern for rule in config.rules]


@QUICKLY
@given(text=st.text(max_size=60) | st.text("{}[]:,-&*!#|>\"' \nabrules", max_size=60))
def test_any_text_in_a_file_gives_a_configuration_or_a_recipe_error(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text, encoding="utf-8")
    outcome(path)


@QUICKLY
@given(
    overrides=st.lists(
        st.builds(
            lambda path, value: f"{'.'.join(path)}={value}",
            st.lists(WORDS | st.sampled_from(["0", "1", "9", "+", ""]), max_size=4),
            st.text(max_size=8) | WORDS,
        )
        | st.text(max_size=10),
        max_size=3,
    )
)
def test_any_override_gives_a_configuration_or_a_recipe_error(overrides):
    outcome("nvfp4", overrides)
