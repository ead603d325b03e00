"""The list form and the dict form of quant_cfg are the same sequence of statements."""

import pytest

from mtcore.errors import RecipeError
from mtcore.recipe.document import Document, Problems
from mtcore.recipe.foreign.statements import statements_of


def said(quant_cfg):
    problems = Problems()
    result = [
        (item.pattern, item.module_type, item.cfg, item.enable)
        for item in statements_of(quant_cfg, Document("the given config", {}), problems)
    ]
    problems.raise_if_any()
    return result


def test_the_list_form_keeps_its_order():
    entries = [
        {"quantizer_name": "*", "enable": False},
        {
            "quantizer_name": "*weight_quantizer",
            "parent_class": "nn.Linear",
            "cfg": {"num_bits": 4},
            "enable": True,
        },
    ]
    assert said(entries) == [("*", None, None, False), ("*weight_quantizer", "nn.Linear", {"num_bits": 4}, True)]


def test_the_dict_form_puts_its_default_first():
    assert said({"*input_quantizer": {"num_bits": 8}, "default": {"enable": False}}) == [
        ("*", None, None, False),
        ("*input_quantizer", None, {"num_bits": 8}, None),
    ]


def test_a_module_type_in_the_dict_form_holds_patterns():
    typed = {
        "nn.Conv2d": {"*weight_quantizer": {"axis": 0}, "*": {"enable": False}},
        "te.Linear": {"*": [{"axis": 0}]},
    }
    assert said(typed) == [
        ("*weight_quantizer", "nn.Conv2d", {"axis": 0}, None),
        ("*", "nn.Conv2d", None, False),
        ("*", "te.Linear", [{"axis": 0}], None),
    ]


def test_entries_of_the_list_may_be_written_as_in_the_dict():
    entries = [
        {"default": {"enable": False}},
        {"*weight_quantizer": {"axis": 0}},
        {"nn.Conv2d": {"*": {"axis": 0}}},
    ]
    assert said(entries) == [
        ("*", None, None, False),
        ("*weight_quantizer", None, {"axis": 0}, None),
        ("*", "nn.Conv2d", {"axis": 0}, None),
    ]


def test_attributes_that_are_mappings_do_not_make_a_module_type():
    assert said({"*weight_quantizer": {"block_sizes": {-1: 16}}})[0][1] is None


def test_attributes_that_hold_only_the_switch_are_a_switch():
    assert said({"*lm_head*": {"enable": False}}) == [("*lm_head*", None, None, False)]
    assert said([{"quantizer_name": "*", "cfg": {"enable": True}}]) == [("*", None, None, True)]
    assert said([{"quantizer_name": "*", "cfg": {"enable": True}, "enable": False}]) == [("*", None, None, False)]
    assert said([{"quantizer_name": "*", "cfg": {}, "enable": False}]) == [("*", None, None, False)]


@pytest.mark.parametrize(
    ("quant_cfg", "message"),
    [
        ("*", "(quant_cfg): it is a list of entries or a mapping of patterns"),
        (None, "(quant_cfg): it is a list of entries"),
        ([{"quantiser_name": "*"}], "(quant_cfg.0.quantiser_name): unknown key 'quantiser_name'. Did you mean"),
        ([{"enable": True}], "(quant_cfg.0.quantizer_name): this key is missing"),
        ([3], "(quant_cfg.0): input should be"),
    ],
)
def test_what_is_no_statement_is_a_problem_with_its_place(quant_cfg, message):
    with pytest.raises(RecipeError) as caught:
        said(quant_cfg)
    assert message in str(caught.value)
