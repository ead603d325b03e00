"""Plans decide about every module, say why, and find problems without touching anything."""

import torch
from torch import nn

from mtcore.plan import make_plan
from mtcore.recipe.setting import QuantizeConfig, SlotRule, SlotSetting
from mtcore.trace import analyze

W, X = "*weight_quantizer", "*input_quantizer"


def messages(plan, level):
    return [f"{finding.where}: {finding.message}" for finding in plan.findings if finding.level == level]


def test_every_module_with_parameters_is_listed_with_its_rule(model, specs, make_config):
    plan = make_plan(model, make_config({W: "nvfp4", X: "nvfp4", "2.*": None}), specs)
    assert [module.name for module in plan] == [
        *(f"{i}.{name}" for i in range(2) for name in ("norm", "gate", "up", "down")),
        "2",
    ]
    assert plan["0.gate"].reason == "rule #1, rule #2"
    assert plan["0.norm"].reason == "left as it is: a rule reaches it only by its type or its own name"
    assert plan["2"].reason == "left as it is by rule #3"
    assert len(plan.quantized) == 6
    assert plan.coverage.share == 6 * 32 * 48 / (6 * 32 * 48 + 320)


def test_later_rules_win_slot_by_slot(model, specs, make_config):
    plan = make_plan(model, make_config({W: "nvfp4", X: "nvfp4", "1.*weight_quantizer": "fp8"}), specs)
    assert plan["1.up"].slot("weight").format.name == "fp8"
    assert plan["1.up"].slot("weight").rule == "rule #3"
    assert plan["1.up"].slot("input").format.name == "nvfp4"


def test_modules_that_read_one_value_share_their_tensor_scales(model, batch, specs, make_config):
    plan = make_plan(model, make_config({W: "nvfp4", X: "nvfp4"}), specs, analyze(model, batch))
    assert {group.modules for group in plan.groups} == {("0.gate", "0.up"), ("1.gate", "1.up")}
    assert {group.slot for group in plan.groups} == {"weight", "input"}
    assert plan["0.gate"].slot("weight").group == plan["0.up"].slot("weight").group is not None
    assert plan["0.down"].slot("weight").group is None


def test_different_formats_or_scales_by_row_are_not_shared(model, batch, specs, make_config):
    trace = analyze(model, batch)
    plan = make_plan(model, make_config({W: "nvfp4", "*up.weight_quantizer": "fp8"}), specs, trace)
    assert plan.groups == ()
    assert make_plan(model, make_config({W: "fp8_row", X: "int8_row"}), specs, trace).groups == ()


def test_without_a_trace_the_plan_says_that_nothing_is_shared(model, specs, make_config):
    plan = make_plan(model, make_config({W: "nvfp4"}), specs, untraced="no inputs")
    assert messages(plan, "warning") == ["trace: no scales are shared: no inputs"]


def test_a_rule_that_enables_and_matches_nothing_is_an_error_and_one_that_skips_is_a_note(
    model, specs, make_config
):
    plan = make_plan(model, make_config({W: "fp8", "*q_proj.weight_quantizer": "nvfp4", "*lm_head*": None}), specs)
    assert messages(plan, "error") == [
        "rule #2: '*q_proj.weight_quantizer' matches no quantizer of this model; mend the pattern or drop the rule"
    ]
    assert messages(plan, "note") == ["rule #3: '*lm_head*' matches no quantizer of this model"]


def test_a_slot_that_is_switched_on_without_a_format_is_an_error(model, specs):
    config = QuantizeConfig(
        "test", (SlotRule("*.up.weight_quantizer", None, True, "rule #1"),), max_unquantized=1.0
    )
    assert messages(make_plan(model, config, specs), "error") == [
        "rule #1: switches 0.up.weight_quantizer and 1 more on, but no rule gives it a format; state one"
    ]


def test_a_recipe_that_quantizes_nothing_is_an_error_that_says_why(specs, make_config):
    tied = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    tied[1].weight = tied[0].weight
    (message,) = messages(make_plan(tied, make_config({"*weight_quantizer": "fp8"}), specs), "error")
    assert message.startswith("recipe: quantizes nothing of this model: 0 (its weight is tied to that of 1")
    head = nn.Sequential(nn.Linear(16, 16))
    config = make_config({"*weight_quantizer": "fp8", "0.*": None}, max_unquantized=1.0)
    (message,) = messages(make_plan(head, config, specs), "error")
    assert message.startswith("recipe: quantizes nothing of this model: 0 (left as it is by rule #2)")


def test_a_recipe_that_switches_nothing_on_may_quantize_nothing(model, specs, make_config):
    config = make_config({"*weight_quantizer": None}, max_unquantized=1.0)
    assert messages(make_plan(model, config, specs), "error") == []


def test_of_alternatives_one_must_match(model, formats, specs):
    setting = SlotSetting(formats["fp8"], "static")
    rules = [
        SlotRule(pattern, setting, True, f"rule #{number}", alternatives="mlp")
        for number, pattern in enumerate(("*.up.weight_quantizer", "*.experts.*weight_quantizer"), 1)
    ]
    assert make_plan(model, QuantizeConfig("test", tuple(rules), max_unquantized=1.0), specs).errors == ()
    (error,) = make_plan(model, QuantizeConfig("test", (rules[1],), max_unquantized=1.0), specs).errors
    assert "matches no quantizer" in error.message


def test_blocks_that_do_not_divide_the_weight_are_errors_with_module_size_format_and_rule(specs, make_config):
    plan = make_plan(nn.Sequential(nn.Linear(1000, 4), nn.Linear(8, 4)), make_config({W: "nvfp4"}), specs)
    assert messages(plan, "error") == [
        "0: 1000 input features are not a multiple of block 16 (format nvfp4, rule #1); leave it out: "
        "--set 'rules.+={modules: [\"0\"], skip: true}'",
        "1: 8 input features are not a multiple of block 16 (format nvfp4, rule #1); leave it out: "
        "--set 'rules.+={modules: [\"1\"], skip: true}'",
    ]


def test_the_guard_stops_a_plan_that_leaves_weights_out_in_silence(specs, make_config):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate_up = nn.Parameter(torch.zeros(4, 64, 32))

    model = nn.ModuleDict({"experts": Experts(), "out": nn.Linear(32, 32)})
    plan = make_plan(model, make_config({W: "fp8"}), specs)
    (error,) = messages(plan, "error")
    assert "88.9% of the weights would be left out" in error
    assert "experts.gate_up" in error
    assert any("stacked weights, one matrix an expert" in text for text in messages(plan, "warning"))
    assert make_plan(model, make_config({W: "fp8"}, max_unquantized=0.9), specs).errors == ()
    assert make_plan(model, make_config({W: "fp8", "experts*": None}), specs).errors == ()


def test_a_tied_weight_stays_and_says_why(specs, make_config):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(64, 32)
            self.body = nn.Linear(32, 32)
            self.head = nn.Linear(32, 64, bias=False)
            self.head.weight = self.embed.weight

    plan = make_plan(Tied(), make_config({W: "fp8"}, max_unquantized=1.0), specs)
    assert not plan["head"].quantized
    assert "tied to that of embed" in plan["head"].reason


def test_planning_works_on_meta_tensors_and_changes_nothing(block_type, specs, make_config):
    with torch.device("meta"):
        model = nn.Sequential(block_type())
    before = list(model.modules())
    assert make_plan(model, make_config({W: "nvfp4"}), specs).coverage.share == 1.0
    assert list(model.modules()) == before


def test_modules_that_the_example_never_called_are_reported(specs, make_config):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.aside = nn.Linear(16, 16), nn.Linear(16, 16)

        def forward(self, x):
            return self.used(x)

    model = Aside()
    plan = make_plan(model, make_config({W: "fp8"}), specs, analyze(model, torch.ones(1, 16)))
    assert messages(plan, "warning") == ["aside: is quantized but was not called by the example inputs"]


class Scaled(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) * 8


def test_a_rule_on_a_type_speaks_of_subclasses_with_a_forward_of_their_own_too(specs, formats):
    model = nn.ModuleDict({"embed": Scaled(64, 8), "up": nn.Linear(8, 8, bias=False)})
    on = SlotRule(W, SlotSetting(formats["fp8"], "static"), True, "rule #1")
    off = SlotRule("*", None, False, "rule #2", module_type="nn.Embedding")
    plan = make_plan(model, QuantizeConfig("test", (on, off)), specs)
    assert plan["embed"].by_rule
    assert plan["embed"].reason == "left as it is by rule #2"
    assert plan.errors == ()


def test_a_tied_weight_that_a_rule_explains_in_one_place_is_not_listed_as_left_out(specs, make_config):
    model = nn.ModuleDict({"embed": Scaled(64, 8), "lm_head": nn.Linear(8, 64, bias=False)})
    model["lm_head"].weight = model["embed"].weight
    plan = make_plan(model, make_config({W: "fp8", "lm_head.*": None}), specs)
    assert not [finding for finding in plan.findings if "unquantized" in finding.message]
    assert plan.coverage.unexplained == 0
