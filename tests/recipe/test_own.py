"""Our own grammar: statements become rules in order, and every value knows where it came from."""

import pytest

from mtcore.errors import RecipeError
from mtcore.recipe import AlgorithmStep, RecipeSpec
from mtcore.recipe.setting import ExpertsSetting


def recipe(name, text):
    return {name: RecipeSpec(name, "", text)}


def shown(config):
    return [(rule.pattern, str(rule.setting), rule.enable) for rule in config.rules]


def test_a_rule_without_modules_speaks_of_all(load, decide):
    config = load({"rules": [{"weight": "fp8", "input": "int8_row"}]})
    assert shown(config) == [
        ("*weight_quantizer", "fp8 (static)", True),
        ("*input_quantizer", "int8_row (dynamic)", True),
    ]
    assert decide(config, "", "weight").format.name == "fp8"


def test_several_globs_make_one_statement(load):
    config = load({"rules": [{"modules": ["*.q", "*.k"], "type": "nn.Linear", "output": "fp8"}]})
    assert [rule.pattern for rule in config.rules] == ["*.q.output_quantizer", "*.k.output_quantizer"]
    assert {rule.origin for rule in config.rules} == {"rule #1 of the given config"}
    assert {rule.module_type for rule in config.rules} == {"nn.Linear"}


def test_later_rules_win(load, decide):
    config = load({"rules": [{"weight": "fp8"}, {"modules": "*mlp*", "weight": "nvfp4"}]})
    assert decide(config, "a.mlp.up", "weight").format.name == "nvfp4"
    assert decide(config, "a.attn.q", "weight").format.name == "fp8"


def test_skip_covers_a_module_and_all_below_it(load, decide):
    config = load({"rules": [{"weight": "fp8", "input": "fp8"}, {"modules": "*.tower", "skip": True}]})
    for module in ("a.tower", "a.tower.block.fc"):
        assert decide(config, module, "weight") is decide(config, module, "input") is None
    assert decide(config, "a.towers", "weight") is not None


@pytest.mark.parametrize("off", [False, "off"])
def test_one_slot_can_be_switched_off(load, decide, off):
    config = load({"rules": [{"weight": "fp8", "input": "fp8"}, {"modules": "*.fc", "input": off}]})
    assert decide(config, "a.fc", "input") is None
    assert decide(config, "a.fc", "weight") is not None


def test_a_mode_knows_whether_it_was_stated(load):
    config = load({"rules": [{"weight": "nvfp4", "input": {"format": "nvfp4", "mode": "dynamic"}}]})
    weight, activation = (rule.setting for rule in config.rules)
    assert (weight.mode, weight.mode_origin) == ("static", "the default of this format and slot")
    assert (activation.mode, activation.mode_origin) == ("dynamic", "stated")


def test_options_reach_the_setting_untouched(load):
    config = load({"rules": [{"weight": {"format": "nvfp4", "options": {"a": [1, {"b": 2}]}}}]})
    assert config.rules[0].setting.options == {"a": [1, {"b": 2}]}


def test_a_rule_on_quantizer_names_gives_each_kind_its_mode(load, decide):
    config = load({"rules": [{"quantizers": "*mlp*", "set": "nvfp4"}]})
    assert str(decide(config, "mlp", "weight")) == "nvfp4 (static)"
    assert str(decide(config, "mlp", "input")) == "nvfp4 (dynamic_blocks)"


def test_a_rule_on_quantizer_names_can_speak_of_one_kind_or_only_toggle(load, decide):
    rules = [{"quantizers": "*", "only": "weight", "set": "nvfp4", "enable": False}]
    config = load({"rules": [*rules, {"quantizers": "*.b.*", "enable": True}]})
    assert decide(config, "a", "weight") is None
    assert decide(config, "x.b", "weight").format.name == "nvfp4"
    assert decide(config, "x.b", "input") is None


def test_include_at_the_top_brings_everything_and_its_rules_come_first(load):
    base = recipe("base", "rules: [{weight: int8}]\nalgorithm: mse\nmax_unquantized: 0.5")
    config = load({"include": "base", "rules": [{"weight": "fp8"}]}, recipes=base)
    assert [str(rule.setting) for rule in config.rules] == ["int8 (static)", "fp8 (static)"]
    assert [rule.origin for rule in config.rules] == ["rule #1 of recipe base", "rule #1 of the given config"]
    assert config.algorithm == (AlgorithmStep("mse"),)
    assert config.algorithm[0].origin == "algorithm of recipe base"
    assert (config.max_unquantized, config.guard_origin) == (0.5, "max_unquantized of recipe base")


def test_what_the_recipe_says_itself_wins_over_its_includes(load):
    base = recipe("base", "algorithm: mse\nmax_unquantized: 0.5")
    config = load({"include": ["base"], "algorithm": None, "max_unquantized": 0}, recipes=base)
    assert config.algorithm == ()
    assert config.max_unquantized == 0


def test_include_in_the_list_brings_rules_to_its_place_only(load):
    base = recipe("base", "rules: [{modules: '*head', skip: true}]\nalgorithm: mse")
    config = load({"rules": [{"weight": "fp8"}, {"include": "base"}]}, recipes=base)
    assert shown(config) == [("*weight_quantizer", "fp8 (static)", True), ("*head.*_quantizer", "None", False)]
    assert config.algorithm == (AlgorithmStep("max"),)
    assert config.algorithm[0].origin == "mtcore's default"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"algoritm": "max"}, "(algoritm): unknown key 'algoritm'. Did you mean 'algorithm'?"),
        ({"rules": [{"wieght": "fp8"}]}, "(rules.0.wieght): unknown key 'wieght'. Did you mean 'weight'?"),
        ({"rules": [{"weight": {"format": "fp8", "mod": 1}}]}, "unknown key 'mod'. Did you mean 'mode'?"),
        ({"rules": [{"weight": {"mode": "static"}}]}, "(rules.0.weight.format): this key is missing"),
        (
            {"rules": [{"weight": "nvpf4"}]},
            "(rules.0.weight.format): no format named 'nvpf4'. Did you mean 'nvfp4'?",
        ),
        ({"rules": [{"input": {"format": "fp8_row", "mode": "static"}}]}, "(rules.0.input.mode): mode static is"),
        ({"rules": [{"input": {"format": "fp8", "mode": "statc"}}]}, "(rules.0.input.mode): input should be"),
        ({"rules": [{}]}, "(rules.0): the rule says nothing"),
        ({"rules": [{"skip": True, "weight": "fp8"}]}, "(rules.0): skip: true switches every slot off"),
        ({"rules": [{"modules": [], "skip": True}]}, "(rules.0.modules): value should have at least 1 item"),
        ({"rules": [{"modules": "", "skip": True}]}, "(rules.0.modules.0): string should have at least 1"),
        ({"rules": [{"quantizers": "*"}]}, "(rules.0): the rule says nothing"),
        ({"rules": [{"quantizers": "*head", "set": "fp8"}]}, "no quantizer's name can match '*head'"),
        ({"rules": [{"quantizers": "*", "set": "fp8", "only": "bias"}]}, "(rules.0.only): "),
        ({"rules": ["fp8"]}, "(rules.0): input should be a valid dictionary"),
        ({"rules": {"weight": "fp8"}}, "(rules): input should be a valid list"),
        ({"rules": [{"include": "nvfp4", "weight": "fp8"}]}, "unknown key 'weight'"),
        ({"include": "nvpf4"}, "(include.0): no recipe named 'nvpf4'. Did you mean 'nvfp4'?"),
        ({"max_unquantized": 1.5}, "(max_unquantized): input should be less than or equal to 1, not 1.5"),
        ({"max_unquantized": float("nan")}, "(max_unquantized): "),
        ({"max_unquantized": True}, "(max_unquantized): "),
        ({"algorithm": 3}, "(algorithm): an algorithm is a name or a mapping"),
        ({"algorithm": ["max", {"alpha": 1}]}, "(algorithm.1.method): the algorithm's name is missing"),
    ],
)
def test_a_mistake_is_one_problem_with_its_place(data, expected, problems_of):
    (problem,) = problems_of(data)
    assert problem.startswith("the given config (")
    assert expected in problem


def test_all_problems_come_together_across_rules_and_includes(problems_of):
    data = {
        "include": ["nope", "broken"],
        "rules": [{"weight": "fp9", "inptu": "fp8"}, {"skip": "yes"}],
        "algorithm": 1,
        "extra": 1,
    }
    problems = problems_of(data, recipes=recipe("broken", "rules:\n- weight: fp7\n"))
    assert len(problems) == 7
    assert "recipe broken, line 2 (rules.0.weight.format): no format named 'fp7'" in "\n".join(problems)


def test_a_circle_of_includes_is_a_problem(problems_of):
    circle = {**recipe("a", "include: b"), **recipe("b", "rules: [{include: a}]")}
    (problem,) = problems_of("a", recipes=circle)
    assert problem == "recipe b, line 1 (rules.0.include): a circle: recipe a includes recipe b includes recipe a"


def test_what_is_done_about_starved_experts_is_read_with_its_place(load):
    config = load({"rules": [], "experts": {"min_tokens": 8}}, "experts.when_starved=all_experts")
    assert config.experts == ExpertsSetting(8, "all_experts", "error")
    assert config.experts.origin.startswith("experts of the given config, changed by override")
    assert load({"rules": []}).experts == ExpertsSetting()


@pytest.mark.parametrize(
    ("experts", "message"),
    [
        ({"min_tokens": -1}, r"experts\.min_tokens.*greater than or equal to 0"),
        ({"when_starved": "ignore"}, r"experts\.when_starved.*'report', 'more_samples' or 'all_experts'"),
        ({"least": 3}, r"unknown key 'least'.*min_tokens, when_starved, unseen"),
        ({"unseen": None}, r"experts\.unseen"),
    ],
)
def test_a_wrong_setting_of_experts_is_named(load, experts, message):
    with pytest.raises(RecipeError, match=message):
        load({"rules": [], "experts": experts})


def test_the_setting_of_experts_of_a_later_include_wins(load, tmp_path):
    for name, tokens in (("first", 3), ("second", 5)):
        (tmp_path / f"{name}.yaml").write_text(f"rules: []\nexperts: {{min_tokens: {tokens}}}\n")
    paths = [str(tmp_path / "first.yaml"), str(tmp_path / "second.yaml")]
    assert load({"include": paths, "rules": []}).experts.min_tokens == 5


def test_targets_are_one_name_or_a_list_each_once_and_the_last_who_names_them_wins(load, tmp_path):
    assert load({"rules": []}).targets == ()
    config = load({"rules": [], "targets": "vllm"}, "targets=[hf, vllm, hf]")
    assert config.targets == ("hf", "vllm")
    assert config.targets_origin.startswith("targets of the given config, changed by override")
    for name, targets in (("first", "[vllm]"), ("second", "trtllm")):
        (tmp_path / f"{name}.yaml").write_text(f"rules: []\ntargets: {targets}\n")
    paths = [str(tmp_path / "first.yaml"), str(tmp_path / "second.yaml")]
    assert load({"include": paths, "rules": []}).targets == ("trtllm",)
    assert load({"include": paths, "rules": [], "targets": "hf"}).targets == ("hf",)
    assert load({"quant_cfg": {"*weight_quantizer": {"num_bits": 8}}, "targets": "vllm"}).targets == ("vllm",)


@pytest.mark.parametrize("targets", [[], [""], {"vllm": 1}, 3])
def test_targets_that_are_no_names_are_refused_with_their_place(load, targets):
    with pytest.raises(RecipeError, match=r"the given config \(targets"):
        load({"rules": [], "targets": targets})
