"""`mtopt algorithms`."""

import json


def test_every_algorithm_is_listed_with_what_it_does_and_costs(registry, mtopt):
    listed = json.loads(mtopt("algorithms", "--json").out)
    assert [one["name"] for one in listed] == list(registry.algorithms)
    shown = mtopt("algorithms").out
    for one in listed:
        assert one["name"] in shown
        assert one["summary"].split()[0] in shown


def test_one_algorithm_is_shown_with_every_option_and_how_to_say_it(registry, mtopt):
    shown = mtopt("algorithms", "gptq").out
    for name in registry.algorithms["gptq"].options.model_fields:
        assert name in shown
    assert "given, importance or blocks" in shown
    assert "--set algorithm.method=gptq --set algorithm.order=blocks" in shown


def test_a_name_of_another_tool_is_told_by_its_name_here(registry, mtopt):
    shown = mtopt("algorithms", "awq_clip")
    assert shown.code == 1
    assert "Here it is {method: awq, variant: clip}" in shown.err
